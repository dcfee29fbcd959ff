-- SPDX-License-Identifier: GPL-2.0-only
-- Version 2: what notifications cost, by operation; with 0, 1, 4 and 16 subscribers.
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
	with_0 INTEGER NOT NULL,
	with_1 INTEGER NOT NULL,
	with_4 INTEGER NOT NULL,
	with_16 INTEGER NOT NULL
) STRICT;
CREATE INDEX costs_of_a_line ON costs (board, line, began);
