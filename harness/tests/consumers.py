#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Reads results with the programs that they are for: for tests/formats.rs.

consumers.py KUNIT_PY SCHEMA.xsd FOLDER prints one JSON object of what each says of
FOLDER/a.ktap, a.xml and a.json. Ends with an error where one cannot read its file.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import kcidb_io
from junitparser import JUnitXml
from lxml import etree


def ktap(kunit, path):
    """What kunit.py counts; its exit code is that of the tests."""
    said = subprocess.run([sys.executable, kunit, "parse", path.resolve()],
                          capture_output=True, text=True, check=False).stdout
    last = said.strip().splitlines()[-1]
    if "Testing complete" not in last:
        sys.exit(f"kunit.py: {said}")
    return {name: int(count) for name, count in re.findall(r"(\w+): (\d+)", last)}


def junit(schema, path):
    """What junitparser counts, of a file that validates."""
    etree.XMLSchema(etree.parse(schema)).assertValid(etree.parse(path))
    suites = JUnitXml.fromfile(path)
    cases = {f"{case.classname}.{case.name}": [(type(result).__name__, result.type)
                                               for result in case.result]
             for suite in suites for case in suite}
    return {"tests": suites.tests, "failures": suites.failures, "errors": suites.errors,
            "skipped": suites.skipped, "cases": cases}


def kcidb(path):
    """The statuses of a report that validates."""
    report = json.loads(path.read_text(encoding="utf-8"))
    kcidb_io.schema.LATEST.validate(report)
    return {"statuses": {test["path"]: test["status"] for test in report["tests"]},
            "incidents": len(report.get("incidents", []))}


def main():
    """See above."""
    kunit, schema, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    print(json.dumps({"ktap": ktap(kunit, folder / "a.ktap"),
                      "junit": junit(schema, folder / "a.xml"),
                      "kcidb": kcidb(folder / "a.json")}))


main()
