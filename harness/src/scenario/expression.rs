// SPDX-License-Identifier: GPL-2.0-only
//! Numbers that are other ones in each round of a `repeat`: `$i * 4 + 2`, of whole numbers,
//! names of rounds, `+`, `-`, `*` and parentheses. `*` binds more than the others.

use std::iter::Peekable;
use std::str::Chars;

/// What names stand for: the number of a round, from 0.
pub type Variables = Vec<(String, u64)>;

/// How deep parentheses may be.
const DEEPEST: usize = 16;

/// What a text comes to.
///
/// # Errors
/// It is no expression, or comes to no number that there is: why, in words.
pub fn evaluate(text: &str, variables: &Variables) -> Result<u64, String> {
    let mut parser = Parser {
        rest: text.chars().peekable(),
        variables,
        depth: 0,
    };
    let value = parser.sum()?;
    match parser.next_sign() {
        None => u64::try_from(value).map_err(|_| format!("it comes to {value}")),
        Some(sign) => Err(format!("`{sign}` is not expected there")),
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    variables: &'a Variables,
    depth: usize,
}

impl Parser<'_> {
    /// The next character that is no blank.
    fn next_sign(&mut self) -> Option<char> {
        while self.rest.next_if(|sign| sign.is_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn sum(&mut self) -> Result<i128, String> {
        let mut value = self.product()?;
        while let Some(sign @ ('+' | '-')) = self.next_sign() {
            self.rest.next();
            let next = self.product()?;
            value = within(match sign {
                '+' => value.checked_add(next),
                _ => value.checked_sub(next),
            })?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<i128, String> {
        let mut value = self.factor()?;
        while self.next_sign() == Some('*') {
            self.rest.next();
            value = within(value.checked_mul(self.factor()?))?;
        }
        Ok(value)
    }

    fn factor(&mut self) -> Result<i128, String> {
        match self.next_sign() {
            Some('(') if self.depth == DEEPEST => {
                Err(format!("more than {DEEPEST} parentheses in one another"))
            }
            Some('(') => {
                self.rest.next();
                self.depth += 1;
                let value = self.sum()?;
                self.depth -= 1;
                match self.next_sign() {
                    Some(')') => self.rest.next(),
                    _ => return Err("a `)` is missing".to_owned()),
                };
                Ok(value)
            }
            Some('$') => {
                self.rest.next();
                let name = self.word(|letter| letter.is_alphanumeric() || letter == '_');
                self.variable(&name)
            }
            Some(digit) if digit.is_ascii_digit() => {
                let digits = self.word(|letter| letter.is_ascii_digit());
                within(digits.parse().ok())
            }
            Some(sign) => Err(format!(
                "`{sign}` is not expected there: it takes numbers, `$i`, `+`, `-`, `*` and parentheses"
            )),
            None => Err("a number is missing at its end".to_owned()),
        }
    }

    fn word(&mut self, of: fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(letter) = self.rest.next_if(|letter| of(*letter)) {
            word.push(letter);
        }
        word
    }

    fn variable(&self, name: &str) -> Result<i128, String> {
        let known = self.variables.iter().find(|known| known.0 == name);
        known.map(|known| known.1.into()).ok_or_else(|| {
            let names = self.variables.iter().map(|known| format!("${}", known.0));
            let names: Vec<String> = names.collect();
            match names.is_empty() {
                true => format!("`${name}` stands for a round of `repeat`, and this is in none"),
                false => format!("there is no `${name}` here, but {}", names.join(", ")),
            }
        })
    }
}

/// Far more than any number of pages, far less than what would overflow.
fn within(value: Option<i128>) -> Result<i128, String> {
    let limit = i128::from(u64::MAX);
    value
        .filter(|value| (-limit..=limit).contains(value))
        .ok_or_else(|| "a number of more than 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<u64, String> {
        evaluate(text, &vec![("i".to_owned(), 3), ("j".to_owned(), 10)])
    }

    #[test]
    fn products_bind_more_than_sums_and_parentheses_more_than_both() {
        assert_eq!(value("$i"), Ok(3));
        assert_eq!(value("$i * 4 + 2"), Ok(14));
        assert_eq!(value("2+4*$i"), Ok(14));
        assert_eq!(value("(2 + 4) * $i - $j"), Ok(8));
        assert_eq!(value("$j - $i - 2"), Ok(5));
        assert_eq!(value("$i - $j + 20"), Ok(13));
    }

    #[test]
    fn what_comes_to_no_number_says_why() {
        let why = |text: &str| value(text).expect_err(text);
        assert_eq!(why("$i - 4"), "it comes to -1");
        assert!(why("$k").contains("no `$k` here, but $i, $j"));
        assert!(why("$i $j").contains("`$` is not expected"));
        assert!(why("$i / 2").contains("`/`"));
        assert!(why("($i").contains("missing"));
        assert!(why("$i +").contains("missing"));
        assert!(why("$").contains("no `$` here"));
        assert!(why("18446744073709551616 * $i").contains("64 bits"));
        assert!(why("18446744073709551615 * 18446744073709551615 * $i").contains("64 bits"));
        assert!(why(&"(".repeat(100)).contains("16"));
        let none = evaluate("$i", &Vec::new()).expect_err("no round");
        assert!(none.contains("this is in none"), "{none}");
    }
}
