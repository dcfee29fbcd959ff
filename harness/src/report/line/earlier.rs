// SPDX-License-Identifier: GPL-2.0-only
//! Lines that earlier versions wrote.

use serde_json::Value;

/// A line of an earlier schema, in the present one.
pub(super) fn raised(mut line: Value, earlier: u32, present: u32) -> Value {
    if earlier < 3 {
        line = schema2::raised(line);
    }
    line = several_ranges(line);
    line["schema"] = Value::from(present);
    line
}

/// Until schema 3 a step named one range of pages at the most.
fn several_ranges(mut line: Value) -> Value {
    for step in line["steps"].as_array_mut().into_iter().flatten() {
        if step["pages"].is_array() {
            step["pages"] = Value::from(vec![step["pages"].take()]);
        }
    }
    line
}

/// Lines of schema 2: of scenarios only what findings look like was another.
mod schema2 {
    use serde_json::{Value, json};

    /// The same line in schema 3.
    pub(super) fn raised(mut line: Value) -> Value {
        if let Some(findings) = line["findings"].as_array_mut() {
            for finding in findings {
                *finding = raised_finding(finding);
            }
        }
        line
    }

    fn raised_finding(was: &Value) -> Value {
        let outcome = was["outcome"].as_str().unwrap_or_default();
        let check = match (outcome, was["layer"].as_u64()) {
            (_, Some(1)) => "layer1",
            (_, Some(2)) => "layer2",
            ("unsafe" | "differs" | "model_not_read", None) => "coverage",
            ("known" | "finding_gone", None) => "known",
            ("snapshot_changed" | "snapshot_new", None) => "snapshot",
            ("varies", None) => "variation",
            ("kernel_crashed", None) => "kernel",
            _ => "run",
        };
        let why = ["why", "what", "page"];
        let why = why.iter().find_map(|name| was[name].as_str());
        let mut blocks = Vec::new();
        let mut block = |name: &str, kind: &str, field: &str| {
            if !was[name].is_null() {
                blocks.push(json!({ "type": kind, field: was[name] }));
            }
        };
        block("differences", "calls", "calls");
        block("uncovered", "ranges", "ranges");
        block("supposed", "ranges", "ranges");
        block("log", "log", "log");
        block("counts", "counts", "counts");
        block("page", "page", "page");
        block("proposed", "proposed", "proposed");
        if !was["steps"].is_null() {
            let sides = match check {
                "snapshot" => "snapshot_kernel",
                "variation" => "most_next",
                _ => "model_kernel",
            };
            let steps = json!({ "type": "steps", "sides": sides, "steps": was["steps"] });
            blocks.push(steps);
        }
        json!({
            "check": check,
            "outcome": outcome,
            "why": why.unwrap_or_default(),
            "cause": null,
            "blocks": blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::report::line::{Block, Line};

    #[test]
    fn lines_of_the_schema_before_are_read() {
        let text = r#"{"schema":2,"type":"scenario","name":"a","outcome":"differs","why":"w",
            "findings":[
              {"outcome":"differs","layer":1,"differences":[{"seq":3,"call":"flush_tlb_mm","mm":1,"cpumask":"0x1","asid":2,"hart":0,"pid":9,"record":"flush_tlb_mm","step":1,"expected":[],"followed":[]}]},
              {"outcome":"differs","layer":2,"steps":[{"step":2,"expected":["a"],"told":["b"]}]},
              {"outcome":"unsafe","uncovered":[{"side":"kernel","step":2,"mm":0,"range":{"pages":"[5,6)","start":"0x1","end":"0x2"}}]},
              {"outcome":"kernel_crashed","what":"oops","log":["x"]},
              {"outcome":"snapshot_new","proposed":null}],
            "runs":1,"elapsed_ms":5,"steps":[]}"#;
        let Ok(Line::Scenario(scenario)) = Line::parse(&text.replace('\n', " ")) else {
            panic!("{:?}", Line::parse(text));
        };
        let checks: Vec<&str> = scenario.findings.iter().map(|f| f.check.as_str()).collect();
        assert_eq!(
            checks,
            ["layer1", "layer2", "coverage", "kernel", "snapshot"]
        );
        assert!(
            matches!(&scenario.findings[0].blocks[0], Block::Calls { calls } if calls[0].asid == Some(2))
        );
        assert!(
            matches!(&scenario.findings[1].blocks[0], Block::Steps { steps, .. }
                if steps[0].seen == Some(vec!["b".to_owned()]))
        );
        assert_eq!(scenario.findings[3].why, "oops");
        assert!(scenario.findings[4].blocks.is_empty());
    }

    #[test]
    fn a_step_of_schema_3_names_one_range() {
        let text = r#"{"schema":3,"type":"scenario","name":"a","outcome":"agree",
            "steps":[{"step":1,"pages":[4,6]},{"step":2}]}"#;
        let Ok(Line::Scenario(scenario)) = Line::parse(text) else {
            panic!("{:?}", Line::parse(text));
        };
        assert_eq!(scenario.steps[0].pages, [[4, 6]]);
        assert_eq!(scenario.steps[1].pages, [[0; 2]; 0]);
    }
}
