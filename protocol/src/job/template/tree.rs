//! Builds the tree of a template from its pieces.

use std::vec::IntoIter;

use super::lex::{Piece, Token, at};
use super::{MAX_DEPTH, TemplateError};

/// One part of a template, with the line that it stands on.
pub(super) enum Part {
    Text(String),
    Show(usize, Pipe),
    Branch { line: usize, kind: Kind, pipe: Pipe, then: Vec<Part>, otherwise: Vec<Part> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    With,
    Range,
}

/// `$a, $b := command | command`.
pub(super) struct Pipe {
    pub(super) names: Vec<String>,
    /// Whether the names are new (`:=`) rather than set again (`=`).
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

pub(super) enum Operand {
    Function(String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Text(String),
    Number(i64),
    Flag(bool),
    Nil,
    Pipe(Pipe),
}

/// What ends a list of parts.
enum End {
    File,
    Close,
    Else,
    ElseIf(usize, Kind, Pipe),
}

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Part>, TemplateError> {
    let mut parser = Parser { pieces: pieces.into_iter(), last_line: 1 };
    match parser.parts(0)? {
        (parts, End::File) => Ok(parts),
        (_, End::Close) => Err(at(parser.last_line, "'end' closes nothing")),
        (_, End::Else | End::ElseIf(..)) => Err(at(parser.last_line, "'else' belongs to nothing")),
    }
}

struct Parser {
    pieces: IntoIter<Piece>,
    last_line: usize,
}

impl Parser {
    fn parts(&mut self, depth: usize) -> Result<(Vec<Part>, End), TemplateError> {
        let mut parts = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    parts.push(Part::Text(text));
                    continue;
                }
                Piece::Action { line, tokens } => (line, tokens),
            };
            self.last_line = line;
            if depth > MAX_DEPTH {
                return Err(at(line, format!("blocks are nested more than {MAX_DEPTH} deep")));
            }
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            let tokens = Tokens { line, tokens: tokens.into_iter() };
            match keyword.as_str() {
                "end" => return tokens.skip_keyword().nothing_more().map(|()| (parts, End::Close)),
                "else" => return tokens.skip_keyword().else_end().map(|end| (parts, end)),
                "if" => parts.push(self.branch(line, Kind::If, tokens.skip_keyword().pipe()?, depth)?),
                "with" => parts.push(self.branch(line, Kind::With, tokens.skip_keyword().pipe()?, depth)?),
                "range" => parts.push(self.branch(line, Kind::Range, tokens.skip_keyword().pipe()?, depth)?),
                "template" | "define" | "block" | "break" | "continue" => {
                    return Err(at(line, format!("'{keyword}' is not supported in job files")));
                }
                _ => parts.push(Part::Show(line, tokens.pipe()?)),
            }
        }
        Ok((parts, End::File))
    }

    fn branch(&mut self, line: usize, kind: Kind, pipe: Pipe, depth: usize) -> Result<Part, TemplateError> {
        let (then, end) = self.parts(depth + 1)?;
        let otherwise = match end {
            End::Close => Vec::new(),
            End::ElseIf(line, kind, pipe) => vec![self.branch(line, kind, pipe, depth + 1)?],
            End::Else => match self.parts(depth + 1)? {
                (otherwise, End::Close) => otherwise,
                (_, End::File) => return Err(unclosed(line, kind)),
                (_, _) => return Err(at(self.last_line, "a second 'else'")),
            },
            End::File => return Err(unclosed(line, kind)),
        };
        Ok(Part::Branch { line, kind, pipe, then, otherwise })
    }
}

fn unclosed(line: usize, kind: Kind) -> TemplateError {
    at(line, format!("'{}' has no '{{{{end}}}}'", kind.word()))
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::If => "if",
            Kind::With => "with",
            Kind::Range => "range",
        }
    }
}

struct Tokens {
    line: usize,
    tokens: IntoIter<Token>,
}

impl Tokens {
    fn skip_keyword(mut self) -> Self {
        self.tokens.next();
        self
    }

    fn nothing_more(mut self) -> Result<(), TemplateError> {
        self.tokens.next().map_or(Ok(()), |token| Err(at(self.line, format!("unexpected {}", token.name()))))
    }

    fn else_end(self) -> Result<End, TemplateError> {
        let kind = match self.tokens.as_slice().first() {
            None => return Ok(End::Else),
            Some(Token::Word(word)) if word == "if" => Kind::If,
            Some(Token::Word(word)) if word == "with" => Kind::With,
            Some(other) => return Err(at(self.line, format!("unexpected {} after 'else'", other.name()))),
        };
        let line = self.line;
        Ok(End::ElseIf(line, kind, self.skip_keyword().pipe()?))
    }

    fn pipe(mut self) -> Result<Pipe, TemplateError> {
        let pipe = self.pipe_until_closed(0)?;
        match self.tokens.next() {
            None => Ok(pipe),
            Some(token) => Err(at(self.line, format!("unexpected {}", token.name()))),
        }
    }

    /// Reads up to `)` or the end, and leaves it there.
    fn pipe_until_closed(&mut self, depth: usize) -> Result<Pipe, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(at(self.line, format!("parentheses are nested more than {MAX_DEPTH} deep")));
        }
        let (names, declares) = self.names();
        let mut commands = vec![Vec::new()];
        while let Some(token) = self.tokens.as_slice().first() {
            match token {
                Token::Sign(")") => break,
                Token::Sign("|") => commands.push(Vec::new()),
                _ => {}
            }
            let token = self.tokens.next().expect("the first token was just seen");
            let command = commands.last_mut().expect("there is always a command");
            match token {
                Token::Sign("|") => {}
                Token::Sign("(") => command.push(self.parenthesised(depth)?),
                Token::Sign(_) => return Err(at(self.line, format!("unexpected {}", token.name()))),
                Token::Word(word) => command.push(literal_or_function(word)),
                Token::Field(names) => command.push(Operand::Field(names)),
                Token::Variable(name, names) => command.push(Operand::Variable(name, names)),
                Token::Text(text) => command.push(Operand::Text(text)),
                Token::Number(number) => command.push(Operand::Number(number)),
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(at(self.line, "nothing between '{{' and '}}'"));
        }
        Ok(Pipe { names, declares, commands })
    }

    fn parenthesised(&mut self, depth: usize) -> Result<Operand, TemplateError> {
        let pipe = self.pipe_until_closed(depth + 1)?;
        let closed = self.tokens.next().is_some();
        if closed { Ok(Operand::Pipe(pipe)) } else { Err(at(self.line, "'(' is never closed")) }
    }

    /// Reads `$a :=`, `$a =` or `$a, $b :=`, if that is what comes.
    fn names(&mut self) -> (Vec<String>, bool) {
        let (names, taken) = match self.tokens.as_slice() {
            [Token::Variable(a, fields), Token::Sign(":=" | "="), ..] if fields.is_empty() => (vec![a.clone()], 2),
            [Token::Variable(a, _), Token::Sign(","), Token::Variable(b, _), Token::Sign(":=" | "="), ..] => {
                (vec![a.clone(), b.clone()], 4)
            }
            _ => return (Vec::new(), false),
        };
        let sign = self.tokens.nth(taken - 1);
        (names, sign == Some(Token::Sign(":=")))
    }
}

fn literal_or_function(word: String) -> Operand {
    match word.as_str() {
        "true" => Operand::Flag(true),
        "false" => Operand::Flag(false),
        "nil" => Operand::Nil,
        _ => Operand::Function(word),
    }
}

impl Token {
    fn name(&self) -> String {
        match self {
            Token::Word(word) => format!("'{word}'"),
            Token::Field(names) => format!("'.{}'", names.join(".")),
            Token::Variable(name, _) => format!("'${name}'"),
            Token::Text(_) => "text".into(),
            Token::Number(number) => format!("'{number}'"),
            Token::Sign(sign) => format!("'{sign}'"),
        }
    }
}
