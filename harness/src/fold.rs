// SPDX-License-Identifier: GPL-2.0-only
//! Rounds of a `repeat` in a text, folded where they differ by nothing but numbers that grow or
//! shrink by the same in each round. No more than a shorter way to write the same lines:
//!
//! ```text
//! 100 rounds, r from 0:
//!  | {3+2r}. touch at {2r} pages 1 write: ok
//!  | {4+2r}. munmap at {2r} pages 1: ok
//!  |    flush_tlb_mm_range [{2r},{1+2r}) stride 4K
//!  |      notified [{2r},{1+2r})
//! ```

use std::borrow::Cow;
use std::fmt::Write;

/// Fewer rounds than these are written out.
const FEWEST: usize = 3;

/// The most rounds that a text may stand for: far more than a scenario may have.
const MOST: usize = 1 << 20;

const HEAD: &str = " rounds, r from 0:";
const BAR: &str = " | ";

/// The lines of rounds, one after the other, folded where that is possible.
pub fn fold(rounds: &[Vec<String>]) -> Vec<String> {
    let rounds: Vec<Round> = rounds.iter().map(|lines| Round::of(lines)).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(first) = rounds.get(at) {
        let alike = alike(&rounds[at..]);
        if alike < FEWEST {
            out.extend(first.lines.iter().cloned());
            at += 1;
            continue;
        }
        out.push(format!("{alike}{HEAD}"));
        let text = first.text_of_rounds(&rounds[at + 1]);
        out.extend(text.lines().map(|line| format!("{BAR}{line}")));
        at += alike;
    }
    out
}

/// The same text with all rounds written out. What is no fold stays as it is.
pub fn unfold(text: &str) -> Cow<'_, str> {
    if !text.lines().any(|line| line.starts_with(BAR)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let number = line
            .strip_suffix(HEAD)
            .and_then(|number| number.parse().ok());
        let Some(rounds) = number.filter(|rounds: &usize| *rounds <= MOST) else {
            let _ = writeln!(out, "{line}");
            continue;
        };
        let mut folded = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(BAR)) {
            folded.push(&line[BAR.len()..]);
        }
        for round in 0..rounds as i128 {
            for line in &folded {
                let _ = writeln!(out, "{}", in_round(line, round));
            }
        }
    }
    Cow::Owned(out)
}

/// How many rounds, from the first on, are the first one with other numbers, each of which
/// changes by the same from round to round.
fn alike(rounds: &[Round<'_>]) -> usize {
    let [first, second, ..] = rounds else {
        return rounds.len();
    };
    if first.braces || first.between != second.between {
        return 1;
    }
    let continues = |(number, round): &(usize, &Round<'_>)| {
        let number = *number as i128;
        let numbers = first.numbers.iter().zip(&second.numbers);
        let expected = numbers.map(|(one, next)| one + (next - one) * number);
        round.between == first.between && expected.eq(round.numbers.iter().copied())
    };
    rounds.iter().enumerate().take_while(continues).count()
}

/// A round, its text taken apart into numbers and what is between them.
struct Round<'a> {
    lines: &'a [String],
    between: Vec<String>,
    numbers: Vec<i128>,
    /// It has what stands for a number already.
    braces: bool,
}

impl Round<'_> {
    fn of(lines: &[String]) -> Round<'_> {
        let text = lines.join("\n");
        let (mut between, mut numbers) = (vec![String::new()], Vec::new());
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let digits = rest.len()
                - rest
                    .trim_start_matches(|sign: char| sign.is_ascii_digit())
                    .len();
            let last = between.last_mut().expect("never empty");
            let within_a_word = last.ends_with(char::is_alphanumeric);
            if digits > 0 && !within_a_word && is_plain(&rest[..digits]) {
                numbers.push(rest[..digits].parse().unwrap_or_default());
                between.push(String::new());
                rest = &rest[digits..];
                continue;
            }
            let length = digits.max(rest.chars().next().map_or(1, char::len_utf8));
            last.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        Round {
            lines,
            between,
            numbers,
            braces: text.contains(['{', '}']),
        }
    }

    /// Its text as that of all rounds, of which the next one is given.
    fn text_of_rounds(&self, next: &Round<'_>) -> String {
        let mut text = self.between[0].clone();
        let numbers = self.numbers.iter().zip(&next.numbers);
        for ((one, next), after) in numbers.zip(&self.between[1..]) {
            match next - one {
                0 => {
                    let _ = write!(text, "{one}");
                }
                step => text.push_str(&growing(*one, step)),
            }
            text.push_str(after);
        }
        text
    }
}

/// A number that is read and written again is the same text.
fn is_plain(digits: &str) -> bool {
    digits.len() <= 20 && (digits == "0" || !digits.starts_with('0'))
}

/// `{4+2r}`, `{r}`, `{9-r}`
fn growing(first: i128, step: i128) -> String {
    let factor = match step.abs() {
        1 => String::new(),
        factor => factor.to_string(),
    };
    match (first, step > 0) {
        (0, true) => format!("{{{factor}r}}"),
        (first, true) => format!("{{{first}+{factor}r}}"),
        (first, false) => format!("{{{first}-{factor}r}}"),
    }
}

/// A line of a fold as it is in one round.
fn in_round(line: &str, round: i128) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let value = after
            .split_once('}')
            .and_then(|(number, after)| Some((value(number, round)?, after)));
        match value {
            Some((value, after)) => {
                let _ = write!(out, "{value}");
                rest = after;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn value(number: &str, round: i128) -> Option<i128> {
    let number = number.strip_suffix('r')?;
    let (first, sign, factor) = match number.find(['+', '-']) {
        Some(at) => (&number[..at], &number[at..=at], &number[at + 1..]),
        None => ("0", "+", number),
    };
    let factor: i128 = match factor {
        "" => 1,
        factor => factor.parse().ok()?,
    };
    let grown = factor.checked_mul(round)?;
    let first: i128 = first.parse().ok()?;
    match sign {
        "+" => first.checked_add(grown),
        _ => first.checked_sub(grown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(of: impl Fn(u64) -> String, times: u64) -> Vec<Vec<String>> {
        let lines = |round| of(round).lines().map(str::to_owned).collect();
        (0..times).map(lines).collect()
    }

    /// What is folded, and that it is the same written out.
    fn folded(rounds: &[Vec<String>]) -> Vec<String> {
        let folded = fold(rounds);
        let written: Vec<String> = rounds.iter().flatten().cloned().collect();
        let text = folded.join("\n");
        let unfolded: Vec<&str> = text.lines().collect();
        let back = unfold(&text);
        assert_eq!(back.lines().collect::<Vec<_>>(), written, "{unfolded:?}");
        folded
    }

    #[test]
    fn numbers_that_grow_or_shrink_evenly_are_folded() {
        let of = |round| {
            format!(
                "{}. munmap at {} pages 1: ok\n   flush_tlb_page {}\n     notified [{},4)",
                7 + 2 * round,
                3 * round,
                1000 - round,
                round + 1
            )
        };
        let expected = [
            "50 rounds, r from 0:",
            " | {7+2r}. munmap at {3r} pages 1: ok",
            " |    flush_tlb_page {1000-r}",
            " |      notified [{1+r},4)",
        ];
        assert_eq!(folded(&rounds(of, 50)), expected);
    }

    #[test]
    fn a_round_that_differs_stands_for_itself() {
        let of = |round| match round {
            0 => "1. first: ok".to_owned(),
            20 => "21. touch: EINVAL".to_owned(),
            round => format!("{}. touch: ok", round + 1),
        };
        let folded = folded(&rounds(of, 40));
        let heads = folded.iter().filter(|line| line.ends_with(HEAD)).count();
        assert_eq!((heads, folded.len()), (2, 6), "{folded:?}");
    }

    #[test]
    fn what_is_no_number_is_left_as_it_is() {
        for text in ["0x10", "007", "sv39 a1", "{2r}", "4K", "x{", "é1"] {
            let of = |round| format!("{text} {round}");
            folded(&rounds(of, 10));
            folded(&rounds(|round| format!("0x{round:x}"), 40));
        }
        assert_eq!(unfold("1. a: ok\n   b\n"), "1. a: ok\n   b\n");
        assert_eq!(folded(&rounds(|round| format!("{round}"), 2)), ["0", "1"]);
        assert_eq!(folded(&[]), [""; 0]);
    }

    #[test]
    fn squares_are_not_folded() {
        folded(&rounds(|round| format!("{}. x", round * round), 30));
    }
}
