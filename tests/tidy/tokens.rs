//! Rust source as words, marks and string literals: enough of a lexer to look for names without being misled by
//! comments and strings.

/// One token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The first line is 1.
    pub(super) line: usize,
    /// Whether it belongs to an item compiled for tests alone.
    pub(super) test: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier, keyword or number.
    Word(String),
    /// A string literal's value; byte and C strings too.
    Text(String),
    /// Any other character.
    Mark(char),
}

impl Token {
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }

    pub(super) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Text(_) | Kind::Mark(_) => None,
        }
    }
}

/// The tokens of a source file, without comments, lifetimes' quotes and character literals.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0, line: 1, tokens: Vec::new() };
    while let Some(next) = lexer.peek(0) {
        lexer.token(next);
    }
    mark_tests(&mut lexer.tokens);
    lexer.tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take(&mut self) -> Option<char> {
        let taken = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(taken == '\n');
        Some(taken)
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push(Token { kind, line, test: false });
    }

    fn token(&mut self, next: char) {
        let line = self.line;
        match (next, self.peek(1)) {
            ('/', Some('/')) => while self.peek(0).is_some_and(|next| next != '\n') && self.take().is_some() {},
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => {
                let text = self.string();
                self.push(Kind::Text(text), line);
            }
            ('\'', _) => self.quote(),
            _ if next.is_whitespace() => {
                self.take();
            }
            _ if next.is_alphanumeric() || next == '_' => {
                let word = self.word();
                let kind = match (word.as_str(), self.peek(0)) {
                    ("b" | "c", Some('"')) => Kind::Text(self.string()),
                    ("r" | "br" | "cr", Some('"' | '#')) => self.raw_string().map_or(Kind::Word(word), Kind::Text),
                    _ => Kind::Word(word),
                };
                self.push(kind, line);
            }
            _ => {
                self.take();
                self.push(Kind::Mark(next), line);
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while self.peek(0).is_some_and(|next| next.is_alphanumeric() || next == '_') {
            word.extend(self.take());
        }
        word
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            let step = match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => 1,
                (Some('*'), Some('/')) => -1,
                (None, _) => return,
                _ => 0,
            };
            depth += step;
            self.take();
            if step != 0 {
                self.take();
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::new();
        self.take();
        while let Some(next) = self.take() {
            match next {
                '"' => break,
                '\\' => match self.take() {
                    Some('n') => text.push('\n'),
                    Some('\n') => while self.peek(0).is_some_and(char::is_whitespace) && self.take().is_some() {},
                    escaped => text.extend(escaped),
                },
                _ => text.push(next),
            }
        }
        text
    }

    /// The rest of a raw string; `None` where `r#` begins a raw identifier.
    fn raw_string(&mut self) -> Option<String> {
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        if self.peek(hashes) != Some('"') {
            return None;
        }
        let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        for _ in 0..=hashes {
            self.take();
        }
        let mut text = String::new();
        while !self.chars[self.at..].starts_with(&end) {
            text.push(self.take()?);
        }
        for _ in 0..end.len() {
            self.take();
        }
        Some(text)
    }

    /// A character literal, or the quote of a lifetime.
    fn quote(&mut self) {
        self.take();
        if self.peek(0) == Some('\\') {
            self.take();
            self.take();
            while self.take().is_some_and(|next| next != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.take();
            self.take();
        }
    }
}

/// Marks the items that stand under `#[cfg(test)]` or `#[test]`.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at + 1 < tokens.len() {
        if !(tokens[at].is_mark('#') && tokens[at + 1].is_mark('[')) {
            at += 1;
            continue;
        }
        let attribute_end = group_end(tokens, at + 1);
        let attribute = &tokens[at + 2..attribute_end];
        let for_tests = match attribute.first().and_then(Token::word) {
            Some("test") => true,
            Some("cfg") => has_word(attribute, "test") && !has_word(attribute, "not"),
            _ => false,
        };
        if !for_tests {
            at = attribute_end;
            continue;
        }
        let end = item_end(tokens, attribute_end + 1);
        tokens[at..=end].iter_mut().for_each(|token| token.test = true);
        at = end + 1;
    }
}

fn has_word(tokens: &[Token], word: &str) -> bool {
    tokens.iter().any(|token| token.is_word(word))
}

/// The last token of the item that begins here: its closing brace, or a semicolon before any brace.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while at + 1 < tokens.len() && !tokens[at].is_mark(';') {
        if tokens[at].is_mark('{') {
            return group_end(tokens, at);
        }
        at = if tokens[at].is_mark('(') || tokens[at].is_mark('[') { group_end(tokens, at) + 1 } else { at + 1 };
    }
    at.min(tokens.len() - 1)
}

/// Where the bracket that opens here is closed.
pub(super) fn group_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

#[test]
fn comments_strings_and_lifetimes_are_told_from_code() {
    let source = r##"a /* b /* c */ d */ "e\"f" r#"g"h"# 'i' '\'' &'j k // l
        b"m" r#type"##;
    let words: Vec<String> = tokens(source)
        .iter()
        .map(|token| match &token.kind {
            Kind::Word(word) => word.clone(),
            Kind::Text(text) => format!("<{text}>"),
            Kind::Mark(mark) => mark.to_string(),
        })
        .collect();
    assert_eq!(words, ["a", "<e\"f>", "<g\"h>", "&", "j", "k", "<m>", "r", "#", "type"]);
}

#[test]
fn items_for_tests_are_marked_to_their_end() {
    let source = "#[cfg(test)] mod t { fn a([u8; 1]) {} } fn b() {} #[cfg(not(test))] fn c() {} #[test] fn d() { e }";
    let in_tests: Vec<String> =
        tokens(source).iter().filter(|token| token.test).filter_map(Token::word).map(str::to_owned).collect();
    assert_eq!(in_tests, ["cfg", "test", "mod", "t", "fn", "a", "u8", "1", "test", "fn", "d", "e"]);
}
