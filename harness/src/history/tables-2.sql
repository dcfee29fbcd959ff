-- SPDX-License-Identifier: GPL-2.0-only
-- Version 2: what notifications cost, by operation (medians over steps).
CREATE TABLE costs (
	id INTEGER PRIMARY KEY,
	began INTEGER NOT NULL,
	board TEXT NOT NULL,
	line TEXT NOT NULL,
	kernel TEXT NOT NULL,
	operation TEXT NOT NULL,
	steps INTEGER NOT NULL,
	notifications INTEGER NOT NULL,
	unit TEXT NOT NULL,
	step REAL NOT NULL,
	first REAL NOT NULL,
	further REAL NOT NULL,
	share REAL NOT NULL
) STRICT;
CREATE INDEX costs_of_a_line ON costs (board, line, began);
