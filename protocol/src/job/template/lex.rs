//! Cuts a template into text and actions, and an action into tokens.

use super::TemplateError;

/// Text, or what stands between `{{` and `}}`.
pub(super) enum Piece {
    Text(String),
    Action { line: usize, tokens: Vec<Token> },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A keyword, function, `true`, `false` or `nil`.
    Word(String),
    /// `.`, `.a` or `.a.b`: the names.
    Field(Vec<String>),
    /// `$`, `$x` or `$x.a`: the variable's name without `$`, and the names.
    Variable(String, Vec<String>),
    Text(String),
    Number(i64),
    /// `(`, `)`, `|`, `,`, `:=` or `=`.
    Sign(&'static str),
}

pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut trim_start) = (text, 1, false);
    while let Some(start) = rest.find("{{") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        let action_line = line + count_lines(before);
        let (action, trim_end) = match after.strip_prefix('-').filter(|trimmed| starts_blank(trimmed)) {
            Some(trimmed) => (trimmed, true),
            None => (after, false),
        };
        push_text(&mut pieces, before, trim_start, trim_end);
        let (inside, end) = inside(action).ok_or_else(|| at(action_line, "'{{' is never closed by '}}'"))?;
        let inside_trimmed = inside.strip_suffix('-').filter(|left| left.ends_with(char::is_whitespace));
        trim_start = inside_trimmed.is_some();
        let code = inside_trimmed.unwrap_or(inside).trim();
        if !(code.starts_with("/*") && code.ends_with("*/")) {
            pieces.push(Piece::Action { line: action_line, tokens: tokens(code).map_err(|why| at(action_line, why))? });
        }
        line = action_line + count_lines(&action[..end]);
        rest = &action[end + 2..];
    }
    push_text(&mut pieces, rest, trim_start, false);
    Ok(pieces)
}

/// An error of the line.
pub(super) fn at(line: usize, message: impl Into<String>) -> TemplateError {
    TemplateError { line, message: message.into() }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

fn starts_blank(text: &str) -> bool {
    text.starts_with(char::is_whitespace)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// What stands before the closing `}}`, which may not be inside quotes or a comment, and where that is.
fn inside(action: &str) -> Option<(&str, usize)> {
    let start = action.len() - action.trim_start().len();
    if action[start..].starts_with("/*") {
        let comment_end = start + action[start..].find("*/")?;
        let end = comment_end + action[comment_end..].find("}}")?;
        return Some((&action[..end], end));
    }
    let mut quote = None;
    let mut characters = action.char_indices();
    while let Some((index, c)) = characters.next() {
        match (quote, c) {
            (Some('"'), '\\') => drop(characters.next()),
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '`') => quote = Some(c),
            (None, '}') if action[index..].starts_with("}}") => return Some((&action[..index], index)),
            _ => {}
        }
    }
    // An open quote swallows the end; the quote is the mistake to name.
    quote.and_then(|_| action.find("}}")).map(|end| (&action[..end], end))
}

fn tokens(code: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' => quoted(rest)?,
            '`' => raw(rest)?,
            '.' => names(rest).map(|(names, length)| (Token::Field(names), length))?,
            '$' => variable(rest)?,
            '0'..='9' | '-' | '+' => number(rest)?,
            _ if is_letter(first) => word(rest),
            _ => sign(rest)?,
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_letter(c)).unwrap_or(text.len())
}

fn word(text: &str) -> (Token, usize) {
    let length = word_length(text);
    (Token::Word(text[..length].to_owned()), length)
}

/// Reads `.`, `.a` or `.a.b`.
fn names(text: &str) -> Result<(Vec<String>, usize), String> {
    let (mut names, mut length) = (Vec::new(), 0);
    while text[length..].starts_with('.') {
        let name = word_length(&text[length + 1..]);
        if name == 0 {
            let lone = length == 0;
            return if lone { Ok((names, 1)) } else { Err("a name is missing after '.'".into()) };
        }
        names.push(text[length + 1..length + 1 + name].to_owned());
        length += 1 + name;
    }
    Ok((names, length))
}

fn variable(text: &str) -> Result<(Token, usize), String> {
    let name = word_length(&text[1..]);
    let (fields, length) = names(&text[1 + name..])?;
    Ok((Token::Variable(text[1..1 + name].to_owned(), fields), 1 + name + length))
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let digits = text[1..].find(|c: char| !is_letter(c) && c != '.').map_or(text.len(), |end| end + 1);
    let number = text[..digits].parse().map_err(|_| format!("'{}' is not a whole number", &text[..digits]))?;
    Ok((Token::Number(number), digits))
}

fn sign(text: &str) -> Result<(Token, usize), String> {
    let found = [":=", "(", ")", "|", ",", "="].into_iter().find(|sign| text.starts_with(sign));
    let unexpected = || format!("unexpected '{}'", text.chars().next().unwrap_or_default());
    found.map(|sign| (Token::Sign(sign), sign.len())).ok_or_else(unexpected)
}

fn raw(text: &str) -> Result<(Token, usize), String> {
    let end = text[1..].find('`').ok_or("a quote is never closed")?;
    Ok((Token::Text(text[1..=end].to_owned()), end + 2))
}

fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return Ok((Token::Text(content), index + 1)),
            '\\' => content.push(match characters.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(c @ ('"' | '\\' | '\'')) => c,
                other => return Err(format!("unknown escape '\\{}'", other.unwrap_or(' '))),
            }),
            c => content.push(c),
        }
    }
    Err("a quote is never closed".into())
}
