// SPDX-License-Identifier: GPL-2.0-only
//! Finds functions, macros and types in C source, as far as that goes without a compiler.

use std::ops::Range;

/// Where a function of that name is defined: from the first word of its
/// definition to its closing brace. More than once where `#if` chooses.
pub(crate) fn definitions(text: &str, name: &str) -> Vec<Range<usize>> {
    let named = |function: &Function| {
        function
            .names
            .iter()
            .any(|word| &text[word.clone()] == name)
    };
    let functions = items(text).into_iter().filter_map(|item| match item {
        Item::Function(function) => Some(function),
        _ => None,
    });
    functions
        .filter(named)
        .map(|function| function.whole)
        .collect()
}

/// The names of all functions that are defined, in order.
pub(crate) fn names(text: &str) -> Vec<&str> {
    let all = all(text).into_iter();
    all.filter(|definition| definition.kind == DefinitionKind::Function)
        .map(|definition| definition.name)
        .collect()
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefinitionKind {
    /// A function, or a system call.
    Function,
    /// What `#define` defines.
    Macro,
    /// A struct, union or enum.
    Type,
}

/// Where a name is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    /// What it is.
    pub kind: DefinitionKind,
    /// Without the word `struct`, `union` or `enum`; of a system call, the name that user
    /// space knows.
    pub name: &'a str,
    /// All of it, in bytes of the text: a type without the semicolon behind it.
    pub whole: Range<usize>,
}

/// All functions, macros and types that a text defines, in order; of those that `#if`
/// chooses from, each.
pub fn all(text: &str) -> Vec<Definition<'_>> {
    items(text)
        .into_iter()
        .filter_map(|item| definition(text, item))
        .collect()
}

fn definition(text: &str, item: Item) -> Option<Definition<'_>> {
    let (kind, name, whole) = match item {
        Item::Function(function) => {
            let name = function_name(text, &function.names)?;
            (DefinitionKind::Function, name, function.whole)
        }
        Item::Macro(line) => (
            DefinitionKind::Macro,
            macro_name(&text[line.clone()])?,
            line,
        ),
        Item::Type(whole) => (
            DefinitionKind::Type,
            type_name(&text[whole.clone()])?,
            whole,
        ),
    };
    Some(Definition { kind, name, whole })
}

/// Of the words before parentheses, the function's name.
fn function_name<'a>(text: &'a str, names: &[Range<usize>]) -> Option<&'a str> {
    let mut words = names.iter().map(|word| &text[word.clone()]);
    let first = words.next()?;
    if first.contains("SYSCALL_DEFINE") {
        let inside = text[names[0].end..].trim_start_matches(['(', ' ']);
        return inside.split(|c: char| !is_word_char(c)).next();
    }
    // Of `__printf(1, 2) f(int x)` the second is meant.
    let own = |word: &&str| !word.starts_with("__");
    Some(if own(&first) {
        first
    } else {
        words.find(own).unwrap_or(first)
    })
}

/// What a directive defines, if it defines something.
fn macro_name(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(['#', ' ', '\t']);
    let rest = rest.strip_prefix("define")?.trim_start();
    rest.split(|c: char| !is_word_char(c))
        .next()
        .filter(|name| !name.is_empty())
}

/// The name of a type that is defined with braces.
fn type_name(text: &str) -> Option<&str> {
    let head = text.split('{').next().unwrap_or_default();
    let mut words = head
        .split_whitespace()
        .skip_while(|word| *word == "typedef");
    let keyword = words.next()?;
    let is_type = ["struct", "union", "enum"].contains(&keyword);
    is_type.then(|| words.last()).flatten()
}

/// The words and marks of a text, without comments: two texts that differ in nothing else
/// have the same.
pub fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for token in tokens(text) {
        match token {
            Token::Directive(line) => {
                words.push("#");
                words.extend(self::words(text[line].trim_start_matches('#')));
            }
            Token::Word(range) | Token::Literal(range) => words.push(&text[range]),
            // A line that goes on is white space.
            Token::Mark(_, b'\\') => {}
            Token::Mark(at, _) => words.push(&text[at..at + 1]),
        }
    }
    words
}

/// The lines of a text without comments, and without those that are empty then.
pub fn lines(text: &str) -> Vec<String> {
    let mut bare = String::with_capacity(text.len());
    let mut end = 0;
    for token in tokens(text) {
        let range = token.range();
        let between = &text[end..range.start];
        // Of a comment only where it ends a line.
        bare.extend(between.chars().filter(|c| c.is_whitespace()));
        bare += &text[range.clone()];
        end = range.end;
    }
    let lines = bare.lines().map(str::trim_end);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The names that stand before a parenthesis: what is called, be it a function or a macro.
pub fn calls(text: &str) -> Vec<&str> {
    let words = words(text);
    let is_name = |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let pairs = words.windows(2);
    pairs
        .filter(|pair| pair[1] == "(" && is_name(pair[0]))
        .map(|pair| pair[0])
        .collect()
}

/// What can be defined.
enum Item {
    Function(Function),
    /// A directive, whether it defines something or not.
    Macro(Range<usize>),
    /// Something with braces and no parentheses before them.
    Type(Range<usize>),
}

/// A function's definition: its place, and that of each word before a
/// parenthesis: of its name, and of attributes that look like it.
struct Function {
    names: Vec<Range<usize>>,
    whole: Range<usize>,
}

fn items(text: &str) -> Vec<Item> {
    let mut scan = Scan::default();
    let mut found = Vec::new();
    for token in tokens(text) {
        if let Token::Directive(line) = &token {
            found.push(Item::Macro(line.clone()));
        }
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
    /// A string or a character.
    Literal(Range<usize>),
    /// Any other character that is no space, comment or literal.
    Mark(usize, u8),
}

impl Token {
    fn range(&self) -> Range<usize> {
        match self {
            Token::Directive(range) | Token::Word(range) | Token::Literal(range) => range.clone(),
            Token::Mark(at, _) => *at..at + 1,
        }
    }
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
    /// The last token closed parentheses.
    closed: bool,
    /// It has an initialiser, so that its braces are no function's.
    assigned: bool,
}

impl Scan {
    fn take(&mut self, text: &str, token: Token) -> Option<Item> {
        match token {
            Token::Directive(line) => self.directive(&text[line]),
            Token::Word(range) if self.outside() => {
                if self.begins_anew(text, &range) {
                    self.forget();
                }
                self.closed = false;
                self.begin.get_or_insert(range.start);
                self.word = Some(range);
            }
            Token::Word(_) | Token::Literal(_) => {}
            Token::Mark(at, mark) => return self.mark(at, mark),
        }
        None
    }

    /// Behind a macro's parentheses that no semicolon follows, as in `PAGEFLAG(Dirty, dirty)`.
    fn begins_anew(&self, text: &str, word: &Range<usize>) -> bool {
        let first_of_line = word.start == 0 || text.as_bytes()[word.start - 1] == b'\n';
        self.closed && first_of_line && !text[word.clone()].starts_with("__")
    }

    fn outside(&self) -> bool {
        self.depth == 0 && self.parentheses == 0
    }

    fn mark(&mut self, at: usize, mark: u8) -> Option<Item> {
        match mark {
            b'(' => {
                if self.outside() {
                    self.names.extend(self.word.take());
                }
                self.parentheses += 1;
            }
            b')' => {
                self.parentheses = self.parentheses.saturating_sub(1);
                self.closed = self.outside();
            }
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

    /// The end of braces: of a function, a type or a value.
    fn close(&mut self, end: usize) -> Option<Item> {
        let whole = self.begin?..end;
        if self.assigned {
            return None;
        }
        if self.names.is_empty() {
            // `struct x { … } y;` goes on.
            return Some(Item::Type(whole));
        }
        let names = std::mem::take(&mut self.names);
        self.forget();
        Some(Item::Function(Function { names, whole }))
    }

    fn forget(&mut self) {
        (self.begin, self.word, self.assigned, self.closed) = (None, None, false, false);
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
            quote @ (b'"' | b'\'') => {
                let length = literal(rest, quote);
                tokens.push(Token::Literal(at..at + length));
                length
            }
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

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
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
    fn a_macro_without_semicolon_is_none_of_the_function_behind_it() {
        let text = "PAGEFLAG(Locked, locked)\n\tSETFLAG(x)\nstatic int f(void)\n{\n}\nint __g(void)\n__must_hold(&l)\n{\n}\n";
        assert_eq!(names(text), ["f", "__g"]);
        assert_eq!(only(text, "f"), "static int f(void)\n{\n}");
    }

    #[test]
    fn macros_types_and_system_calls_have_names_too() {
        let text = "#define A(x) \\\n\t((x) + 1)\n#define B\nstruct s {\n\tint a;\n} __packed;\ntypedef enum e { X } e_t;\nSYSCALL_DEFINE2(munmap, int, a)\n{\n}\nstatic struct s v = { 1 };\n";
        let found: Vec<_> = all(text).into_iter().map(|d| (d.kind, d.name)).collect();
        let expected = [
            (DefinitionKind::Macro, "A"),
            (DefinitionKind::Macro, "B"),
            (DefinitionKind::Type, "s"),
            (DefinitionKind::Type, "e"),
            (DefinitionKind::Function, "munmap"),
        ];
        assert_eq!(found, expected);
        assert!(text[all(text)[0].whole.clone()].ends_with("+ 1)"));
        assert_eq!(&text[all(text)[2].whole.clone()], "struct s {\n\tint a;\n}");
    }

    #[test]
    fn words_are_the_same_where_only_comments_and_space_differ() {
        let one =
            "int f(void)\n{ /* a */\n#ifdef A /* b */\n\treturn p(\"/* */\") + 'a';\n#endif\n}";
        let other = "int f(void) {\n# ifdef A\n return p(\n\"/* */\") // c\n+ 'a';\n#endif\n}";
        assert_eq!(words(one), words(other));
        assert_ne!(words(one), words(&one.replace("'a'", "'b'")));
        assert_ne!(words(one), words(&one.replace("ifdef A", "ifdef B")));
        assert_eq!(
            words("#define A(x) \\\n\t(x)"),
            words("#define A(x) (x) /* d */")
        );
        assert_eq!(calls(one), ["f", "p"]);
        let bare = [
            "int f(void)",
            "{",
            "#ifdef A /* b */",
            "\treturn p(\"/* */\") + 'a';",
            "#endif",
            "}",
        ];
        assert_eq!(lines(one), bare);
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
