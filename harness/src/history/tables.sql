-- SPDX-License-Identifier: GPL-2.0-only
-- Version 1 of the tables. Times are in milliseconds since 1970.
CREATE TABLE runs (
	id INTEGER PRIMARY KEY,
	uuid TEXT NOT NULL UNIQUE,
	began INTEGER NOT NULL,
	board TEXT NOT NULL,
	line TEXT NOT NULL,
	kernel TEXT NOT NULL,
	profile TEXT NOT NULL,
	backend TEXT NOT NULL,
	scenarios INTEGER NOT NULL,
	elapsed_ms INTEGER, -- null: it did not end, or goes on
	stopped TEXT,
	interrupted INTEGER
) STRICT;
CREATE INDEX runs_of_a_line ON runs (board, line, began);

CREATE TABLE scenarios (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE
) STRICT;

-- What was found, as JSON; the same is kept once.
CREATE TABLE details (
	id INTEGER PRIMARY KEY,
	hash BLOB NOT NULL UNIQUE,
	text TEXT NOT NULL
) STRICT;

CREATE TABLE results (
	run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
	scenario INTEGER NOT NULL REFERENCES scenarios,
	outcome TEXT NOT NULL,
	why TEXT NOT NULL,
	elapsed_ms INTEGER NOT NULL,
	details INTEGER REFERENCES details,
	PRIMARY KEY (run, scenario)
) STRICT, WITHOUT ROWID;
CREATE INDEX results_of_a_scenario ON results (scenario);
