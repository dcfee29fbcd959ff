// SPDX-License-Identifier: GPL-2.0-only
//! Finds functions in C source, as far as that goes without a compiler.

use std::ops::Range;

/// Where a function of that name is defined: from the first word of its
/// definition to its closing brace. More than once where `#if` chooses.
pub(super) fn definitions(text: &str, name: &str) -> Vec<Range<usize>> {
    let named = |function: &Function| {
        function
            .names
            .iter()
            .any(|word| &text[word.clone()] == name)
    };
    functions(text)
        .into_iter()
        .filter(named)
        .map(|function| function.whole)
        .collect()
}

/// The names of all functions that are defined, in order.
pub(super) fn names(text: &str) -> Vec<&str> {
    functions(text)
        .into_iter()
        .filter_map(|function| {
            let mut words = function.names.into_iter().map(|word| &text[word]);
            let first = words.next()?;
            // Of `__printf(1, 2) f(int x)` the second is meant.
            let own = |word: &&str| !word.starts_with("__");
            Some(if own(&first) {
                first
            } else {
                words.find(own).unwrap_or(first)
            })
        })
        .collect()
}

/// A function's definition: its place, and that of each word before a
/// parenthesis: of its name, and of attributes that look like it.
struct Function {
    names: Vec<Range<usize>>,
    whole: Range<usize>,
}

fn functions(text: &str) -> Vec<Function> {
    let mut scan = Scan::default();
    let mut found = Vec::new();
    for token in tokens(text) {
        found.extend(scan.take(text, token));
    }
    found
}

/// What matters of C: the rest is white space to a [`Scan`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A preprocessor's line.
    Directive(Range<usize>),
    /// An identifier, keyword or number.
    Word(Range<usize>),
    /// Any other character that is no space, comment or literal.
    Mark(usize, u8),
}

/// What has been seen of the declaration that is being read.
#[derive(Default)]
struct Scan {
    /// How many braces are open.
    depth: usize,
    /// How many parentheses are.
    parentheses: usize,
    /// Depth at each `#if` that is open: its branches all begin there.
    branches: Vec<usize>,
    /// Where the declaration began.
    begin: Option<usize>,
    /// The last word outside of parentheses.
    word: Option<Range<usize>>,
    /// The words before parentheses: one is a function's name, if it is one.
    names: Vec<Range<usize>>,
    /// It has an initialiser, so that its braces are no function's.
    assigned: bool,
}

impl Scan {
    fn take(&mut self, text: &str, token: Token) -> Option<Function> {
        match token {
            Token::Directive(line) => self.directive(&text[line]),
            Token::Word(range) if self.outside() => {
                self.begin.get_or_insert(range.start);
                self.word = Some(range);
            }
            Token::Word(_) => {}
            Token::Mark(at, mark) => return self.mark(at, mark),
        }
        None
    }

    fn outside(&self) -> bool {
        self.depth == 0 && self.parentheses == 0
    }

    fn mark(&mut self, at: usize, mark: u8) -> Option<Function> {
        match mark {
            b'(' => {
                if self.outside() {
                    self.names.extend(self.word.take());
                }
                self.parentheses += 1;
            }
            b')' => self.parentheses = self.parentheses.saturating_sub(1),
            b'=' if self.outside() => self.assigned = true,
            b';' if self.outside() => self.forget(),
            b'{' => self.depth += 1,
            b'}' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    // What was unbalanced inside is of no concern outside.
                    self.parentheses = 0;
                    return self.close(at + 1);
                }
            }
            _ => {}
        }
        None
    }

    /// The end of braces: of a function, unless it was a type or a value.
    fn close(&mut self, end: usize) -> Option<Function> {
        let begin = self.begin?;
        if self.assigned || self.names.is_empty() {
            // `struct x { … } y;` goes on.
            return None;
        }
        let names = std::mem::take(&mut self.names);
        self.forget();
        Some(Function {
            names,
            whole: begin..end,
        })
    }

    fn forget(&mut self) {
        (self.begin, self.word, self.assigned) = (None, None, false);
        self.names.clear();
    }

    fn directive(&mut self, line: &str) {
        let word = line.trim_start_matches(['#', ' ', '\t']);
        if word.starts_with("if") {
            self.branches.push(self.depth);
        } else if word.starts_with("el") {
            self.depth = self.branches.last().copied().unwrap_or(self.depth);
        } else if word.starts_with("endif") {
            self.branches.pop();
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line_begins) = (0, true);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest[0] {
            b'\n' => {
                line_begins = true;
                at += 1;
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'/' if rest.starts_with(b"/*") || rest.starts_with(b"//") => {
                at += comment(rest);
                continue;
            }
            b'#' if line_begins => {
                let length = directive(rest);
                tokens.push(Token::Directive(at..at + length));
                length
            }
            quote @ (b'"' | b'\'') => literal(rest, quote),
            byte if is_word(byte) => {
                let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                tokens.push(Token::Word(at..at + length));
                length
            }
            byte => {
                tokens.push(Token::Mark(at, byte));
                1
            }
        };
        at += length;
        line_begins = false;
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The length of the comment that begins here.
fn comment(rest: &[u8]) -> usize {
    if rest.starts_with(b"//") {
        return rest.iter().take_while(|byte| **byte != b'\n').count();
    }
    let end = rest.windows(2).skip(2).position(|pair| pair == b"*/");
    end.map_or(rest.len(), |at| at + 4)
}

/// The length of the string or character that begins here.
fn literal(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote && rest[at] != b'\n' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of the directive that begins here, continued lines and
/// comments that span lines included, the last line break not.
fn directive(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() && rest[at] != b'\n' {
        at += match rest[at] {
            b'\\' => 2,
            b'/' if rest[at..].starts_with(b"/*") => comment(&rest[at..]),
            _ => 1,
        };
    }
    at.min(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of the one definition.
    fn only<'a>(text: &'a str, name: &str) -> &'a str {
        let found = definitions(text, name);
        assert_eq!(found.len(), 1, "{name} in {text}");
        &text[found[0].clone()]
    }

    #[test]
    fn a_definition_is_told_from_a_declaration_and_a_call() {
        let text =
            "int f(int);\nint g(void)\n{\n\treturn f(1);\n}\nint f(int x)\n{\n\treturn x;\n}\n";
        assert_eq!(only(text, "f"), "int f(int x)\n{\n\treturn x;\n}");
        assert_eq!(names(text), ["g", "f"]);
    }

    #[test]
    fn the_type_may_be_on_the_line_before() {
        let text = "int a;\nstatic inline struct x *\nf(void)\n{\n}\n";
        assert_eq!(only(text, "f"), "static inline struct x *\nf(void)\n{\n}");
    }

    #[test]
    fn attributes_may_stand_on_both_sides() {
        let text = "static void __init f(int x)\n\t__must_hold(&lock) __cold\n{\n}\n";
        assert_eq!(only(text, "f"), text.trim_end());
        let text = "static __printf(1, 2) int f(int x) __must_hold(&lock) { }";
        assert_eq!(names(text), ["f"]);
        assert_eq!(only(text, "f"), text);
    }

    #[test]
    fn braces_in_comments_strings_and_characters_do_not_count() {
        let text =
            "void f(void)\n{\n\t/* } */ // }\n\tp(\"}\\\"}\", '}', '\\'');\n}\nvoid g(void) { }\n";
        assert!(only(text, "f").ends_with("'\\'');\n}"));
        assert_eq!(only(text, "g"), "void g(void) { }");
    }

    #[test]
    fn a_macro_is_no_function_and_its_apostrophe_no_character() {
        let text = "#define f(x) \\\n\t{ x; }\n#error don't\nvoid f(void) { }\n";
        assert_eq!(only(text, "f"), "void f(void) { }");
    }

    #[test]
    fn every_branch_of_an_if_is_a_definition() {
        let text = "#ifdef A\nvoid f(void) { a; }\n#else\nvoid f(void) { b; }\n#endif\n";
        let found = definitions(text, "f");
        let found: Vec<_> = found.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["void f(void) { a; }", "void f(void) { b; }"]);
    }

    #[test]
    fn braces_that_open_in_two_branches_and_close_once_are_one() {
        let text = "void f(void)\n{\n#if A\n\tif (a) {\n#elif B\n\tif (b) {\n#else\n\t{\n#endif\n\t}\n}\nvoid g(void) { }\n";
        assert!(only(text, "f").ends_with("\t}\n}"));
        assert_eq!(only(text, "g"), "void g(void) { }");
    }

    #[test]
    fn types_and_values_are_no_functions() {
        let text = "struct s { int (*f)(int); } __packed;\nstatic struct s a = { .f = g };\nint b[] = { X(1) };\nDEFINE(x);\nenum { A, B };\nvoid f(void) { }\n";
        assert_eq!(names(text), ["f"]);
        assert_eq!(only(text, "f"), "void f(void) { }");
    }

    #[test]
    fn a_text_that_ends_too_early_is_no_trouble() {
        for text in [
            "",
            "void f(",
            "void f(void) {",
            "/* ",
            "\"",
            "'\\",
            "#if \\",
            "}}})",
        ] {
            assert!(names(text).is_empty(), "{text}");
        }
    }
}
