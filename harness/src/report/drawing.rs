// SPDX-License-Identifier: GPL-2.0-only
//! The arena as a row of cells for each side: what secondary MMUs were notified of in a step.
//!
//! ```text
//!           0   4 6         16
//!   model   ····██··········
//!   kernel  ················
//! ```

use operations::{ARENA_BASE, ARENA_PAGES, PAGE_SIZE, Pages};
use reference_model::Range;

/// Most cells in a row.
const CELLS: u64 = 64;

/// One row.
pub struct Row<'a> {
    /// Whose.
    pub name: &'a str,
    /// What it notified of.
    pub told: Vec<Range>,
}

/// Draws the rows over the part of the arena that any of them, or the step, names.
pub fn draw(named: &[Pages], rows: &[Row<'_>]) -> Vec<String> {
    let told = rows.iter().flat_map(|row| &row.told).filter_map(span);
    let named = named.iter().map(|pages| (pages.start, pages.end));
    let spans: Vec<(u64, u64)> = named.chain(told).collect();
    let Some(window) = Window::around(spans.iter().copied()) else {
        return Vec::new();
    };
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let marks = spans.iter().flat_map(|(start, end)| [*start, *end]);
    let mut lines = vec![format!("{:width$}  {}", "", window.axis(marks))];
    for row in rows {
        let cells: String = (0..window.cells)
            .map(|cell| window.cell(cell, &row.told))
            .collect();
        let remark = if row.told.iter().any(is_everything) {
            "  whole mm"
        } else {
            ""
        };
        lines.push(format!("{:width$}  {cells}{remark}", row.name));
    }
    if window.pages_per_cell > 1 {
        let per_cell = window.pages_per_cell;
        lines.push(format!(
            "{:width$}  (a cell is {per_cell} pages; ▒ is partly notified)",
            ""
        ));
    }
    lines
}

fn is_everything(range: &Range) -> bool {
    *range
        == Range {
            start: 0,
            end: u64::MAX,
        }
}

/// A range in pages of the arena; none if it is outside, or everything.
fn span(range: &Range) -> Option<(u64, u64)> {
    if is_everything(range) {
        return None;
    }
    let start = range.start.saturating_sub(ARENA_BASE) / PAGE_SIZE;
    let end = range
        .end
        .saturating_sub(ARENA_BASE)
        .div_ceil(PAGE_SIZE)
        .min(ARENA_PAGES);
    (start < end).then_some((start, end))
}

struct Window {
    first: u64,
    cells: u64,
    pages_per_cell: u64,
}

impl Window {
    fn around(spans: impl Iterator<Item = (u64, u64)>) -> Option<Window> {
        let (first, last) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        // A little of what is around shows that it was not notified.
        let (first, last) = (first.saturating_sub(2), (last + 2).min(ARENA_PAGES));
        let pages_per_cell = (last - first).div_ceil(CELLS).max(1);
        Some(Window {
            first,
            cells: (last - first).div_ceil(pages_per_cell),
            pages_per_cell,
        })
    }

    fn cell(&self, cell: u64, told: &[Range]) -> char {
        let start = self.first + cell * self.pages_per_cell;
        let end = (start + self.pages_per_cell).min(ARENA_PAGES);
        let is_told = |page: u64| {
            let byte = ARENA_BASE + page * PAGE_SIZE;
            told.iter()
                .any(|range| range.start <= byte && byte + PAGE_SIZE <= range.end)
        };
        match (start..end).filter(|&page| is_told(page)).count() as u64 {
            0 => '·',
            all if all == end - start => '█',
            _ => '▒',
        }
    }

    /// Page numbers above the cells where something begins or ends, as far as they fit.
    fn axis(&self, marks: impl Iterator<Item = u64>) -> String {
        let mut pages: Vec<u64> = marks.chain([self.first]).collect();
        pages.sort_unstable();
        pages.dedup();
        let mut axis = String::new();
        for page in pages {
            let column = ((page - self.first) / self.pages_per_cell) as usize;
            if axis.is_empty() || column > axis.len() {
                axis.push_str(&" ".repeat(column - axis.len()));
                axis.push_str(&page.to_string());
            }
        }
        axis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(start: u64, end: u64) -> Range {
        Range {
            start: ARENA_BASE + start * PAGE_SIZE,
            end: ARENA_BASE + end * PAGE_SIZE,
        }
    }

    fn named(start: u64, end: u64) -> Pages {
        Pages { start, end }
    }

    #[test]
    fn all_that_a_step_names_is_drawn() {
        let rows = [Row {
            name: "k",
            told: vec![],
        }];
        let drawn = draw(&[named(4, 6), named(9, 10)], &rows);
        assert_eq!(drawn, ["   2 4 6  9", "k  ··········"]);
    }

    #[test]
    fn a_page_is_a_cell() {
        let rows = [
            Row {
                name: "model",
                told: vec![pages(4, 6)],
            },
            Row {
                name: "kernel",
                told: vec![],
            },
        ];
        assert_eq!(
            draw(&[named(4, 6)], &rows),
            ["        2 4 6", "model   ··██··", "kernel  ······"]
        );
    }

    #[test]
    fn a_long_arena_is_compressed_and_partly_told_cells_are_shown_as_such() {
        let rows = [Row {
            name: "k",
            told: vec![pages(0, 128), pages(200, 201)],
        }];
        let drawn = draw(&[named(0, 254)], &rows);
        assert_eq!(
            drawn[1],
            format!("k  {}{}▒{}", "█".repeat(32), "·".repeat(18), "·".repeat(13))
        );
        assert!(drawn[2].contains("4 pages"));
    }

    #[test]
    fn everything_is_said_in_words() {
        let rows = [Row {
            name: "k",
            told: vec![Range {
                start: 0,
                end: u64::MAX,
            }],
        }];
        assert_eq!(draw(&[named(0, 1)], &rows)[1], "k  ███  whole mm");
        assert!(draw(&[], &rows).is_empty());
    }
}
