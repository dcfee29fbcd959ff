-- SPDX-License-Identifier: GPL-2.0-only
-- Version 3: what a failure has in common with others; null for those kept before.
ALTER TABLE results ADD COLUMN cause TEXT;
