//! Renders the tree of a template.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::lex::at;
use super::tree::{Kind, Operand, Part, Pipe};
use super::{MAX_STEPS, TemplateError};
use crate::job::parse::MAX_SPEC_BYTES;
use crate::job::problem::nearest;

/// Bytes of text that one step may make.
const BYTES_PER_STEP: usize = 256;
/// Widest padding that `printf` writes.
const MAX_WIDTH: usize = 1_000;

#[derive(Clone, PartialEq)]
enum Value {
    Nil,
    Flag(bool),
    Number(i64),
    Text(String),
    /// All variables: what `.` is at the top.
    Vars,
}

pub(super) fn render(parts: &[Part], vars: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut renderer = Renderer { vars, output: String::new(), named: Vec::new(), steps: 0, line: 1 };
    renderer.parts(parts, &Value::Vars).map_err(|message| at(renderer.line, message))?;
    Ok(renderer.output)
}

struct Renderer<'a> {
    vars: &'a BTreeMap<String, String>,
    output: String,
    /// Variables in scope, innermost last.
    named: Vec<(String, Value)>,
    steps: usize,
    /// The line of the action being rendered, for errors.
    line: usize,
}

type Evaluated = Result<Value, String>;

impl Renderer<'_> {
    fn parts(&mut self, parts: &[Part], dot: &Value) -> Result<(), String> {
        let scope = self.named.len();
        for part in parts {
            self.step()?;
            match part {
                Part::Text(text) => self.write(text)?,
                Part::Show(line, pipe) => self.show(*line, pipe, dot)?,
                Part::Branch { line, kind, pipe, then, otherwise } => {
                    self.line = *line;
                    self.branch(*kind, pipe, then, otherwise, dot)?;
                }
            }
        }
        self.named.truncate(scope);
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps <= MAX_STEPS { Ok(()) } else { Err(format!("rendering takes more than {MAX_STEPS} steps")) }
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        bounded(self.output.len() + text.len())?;
        self.output.push_str(text);
        Ok(())
    }

    fn show(&mut self, line: usize, pipe: &Pipe, dot: &Value) -> Result<(), String> {
        self.line = line;
        let value = self.pipe(pipe, dot)?;
        if pipe.names.len() > 1 {
            return Err("two variables are only set by 'range'".into());
        }
        match pipe.names.first() {
            Some(name) => self.set(name, pipe.declares, value),
            None => self.write(&printed(&value)),
        }
    }

    fn set(&mut self, name: &str, declares: bool, value: Value) -> Result<(), String> {
        if declares {
            self.named.push((name.to_owned(), value));
            return Ok(());
        }
        let slot = self.named.iter_mut().rev().find(|(known, _)| known == name);
        slot.map(|(_, old)| *old = value).ok_or_else(|| format!("no variable '${name}'"))
    }

    fn branch(&mut self, kind: Kind, pipe: &Pipe, then: &[Part], other: &[Part], dot: &Value) -> Result<(), String> {
        let value = self.pipe(pipe, dot)?;
        let scope = self.named.len();
        match kind {
            Kind::Range => self.range(&value, pipe, then, other, dot)?,
            Kind::If | Kind::With => {
                if let Some(name) = pipe.names.first() {
                    self.set(name, pipe.declares, value.clone())?;
                }
                let inner = if kind == Kind::With { &value } else { dot };
                if self.holds(&value) { self.parts(then, inner)? } else { self.parts(other, dot)? }
            }
        }
        self.named.truncate(scope);
        Ok(())
    }

    fn range(&mut self, over: &Value, pipe: &Pipe, then: &[Part], other: &[Part], dot: &Value) -> Result<(), String> {
        if !self.holds(over) {
            return self.parts(other, dot);
        }
        let vars = self.vars;
        match over {
            Value::Vars => vars.iter().try_for_each(|(key, value)| {
                self.round(pipe, then, Value::Text(key.clone()), Value::Text(value.clone()))
            }),
            Value::Number(end) => {
                (0..*end).try_for_each(|index| self.round(pipe, then, Value::Number(index), Value::Number(index)))
            }
            other => Err(format!("'range' needs '.' or a whole number, not {}", kind_of(other))),
        }
    }

    fn round(&mut self, pipe: &Pipe, then: &[Part], key: Value, value: Value) -> Result<(), String> {
        self.step()?;
        let scope = self.named.len();
        match pipe.names.as_slice() {
            [] => {}
            [one] => self.set(one, pipe.declares, value.clone())?,
            [first, second, ..] => {
                self.set(first, pipe.declares, key)?;
                self.set(second, pipe.declares, value.clone())?;
            }
        }
        self.parts(then, &value)?;
        self.named.truncate(scope);
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Evaluated {
        let mut piped = None;
        for command in &pipe.commands {
            let value = self.command(command, piped, dot)?;
            if let Value::Text(text) = &value {
                // Long texts cost more, so that copying them over and over ends as soon as any other work.
                self.steps += text.len() / BYTES_PER_STEP;
            }
            piped = Some(value);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &[Operand], piped: Option<Value>, dot: &Value) -> Evaluated {
        self.step()?;
        let (first, rest) = command.split_first().ok_or("nothing to do")?;
        match first {
            Operand::Function(name) if name == "or" || name == "and" => self.chain(name == "or", rest, piped, dot),
            Operand::Function(name) => {
                let mut values =
                    rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
                values.extend(piped);
                self.call(name, &values)
            }
            _ if !rest.is_empty() || piped.is_some() => Err("a value is used like a function".into()),
            operand => self.operand(operand, dot),
        }
    }

    /// `and` and `or` stop at the first value that decides.
    fn chain(&mut self, wanted: bool, operands: &[Operand], piped: Option<Value>, dot: &Value) -> Evaluated {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if self.holds(&value) == wanted {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| "'and' and 'or' need at least 1 value".into())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Evaluated {
        match operand {
            Operand::Function(name) => self.call(name, &[]),
            Operand::Field(names) => self.field(dot.clone(), names, ""),
            Operand::Variable(name, names) => self.field(self.variable(name)?, names, &format!("${name}")),
            Operand::Text(text) => Ok(Value::Text(text.clone())),
            Operand::Number(number) => Ok(Value::Number(*number)),
            Operand::Flag(flag) => Ok(Value::Flag(*flag)),
            Operand::Nil => Ok(Value::Nil),
            Operand::Pipe(pipe) => self.pipe(pipe, dot),
        }
    }

    fn variable(&self, name: &str) -> Evaluated {
        if name.is_empty() {
            return Ok(Value::Vars);
        }
        let found = self.named.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("no variable '${name}'"))
    }

    fn field(&self, value: Value, names: &[String], so_far: &str) -> Evaluated {
        let Some((name, rest)) = names.split_first() else { return Ok(value) };
        if value != Value::Vars {
            let of = if so_far.is_empty() { "." } else { so_far };
            return Err(format!("'{of}' is {} and has no field '{name}'", kind_of(&value)));
        }
        let value = self.vars.get(name).ok_or_else(|| self.missing(name))?;
        self.field(Value::Text(value.clone()), rest, &format!("{so_far}.{name}"))
    }

    fn missing(&self, name: &str) -> String {
        let hint = nearest(name, self.vars.keys().map(String::as_str));
        let hint = hint.map(|near| format!(" (did you mean '.{near}'?)")).unwrap_or_default();
        format!("no value for '.{name}': give it with -V {name}=VALUE{hint}")
    }

    /// Whether Go calls it true: neither nil, false, 0 nor empty.
    fn holds(&self, value: &Value) -> bool {
        match value {
            Value::Nil => false,
            Value::Flag(flag) => *flag,
            Value::Number(number) => *number != 0,
            Value::Text(text) => !text.is_empty(),
            Value::Vars => !self.vars.is_empty(),
        }
    }

    fn call(&mut self, name: &str, values: &[Value]) -> Evaluated {
        match (name, values) {
            ("not", [value]) => Ok(Value::Flag(!self.holds(value))),
            ("default", [fallback, value]) => Ok(if self.holds(value) { value.clone() } else { fallback.clone() }),
            ("index", [value]) => Ok(value.clone()),
            ("index", [Value::Vars, Value::Text(key)]) => {
                Ok(Value::Text(self.vars.get(key).cloned().unwrap_or_default()))
            }
            ("index", _) => Err("'index' looks into '.' by a name in quotes".into()),
            ("len", [value]) => self.length(value),
            ("print", values) => text(printed_together(values)),
            ("println", values) => text(format!("{}\n", values.iter().map(printed).collect::<Vec<_>>().join(" "))),
            ("printf", [Value::Text(format), arguments @ ..]) => text(formatted(format, arguments)?),
            ("eq", [value, others @ ..]) if !others.is_empty() => equals_any(value, others),
            ("ne", [a, b]) => Ok(Value::Flag(compared(a, b)? != Ordering::Equal)),
            ("lt", [a, b]) => Ok(Value::Flag(compared(a, b)? == Ordering::Less)),
            ("le", [a, b]) => Ok(Value::Flag(compared(a, b)? != Ordering::Greater)),
            ("gt", [a, b]) => Ok(Value::Flag(compared(a, b)? == Ordering::Greater)),
            ("ge", [a, b]) => Ok(Value::Flag(compared(a, b)? != Ordering::Less)),
            ("eq" | "ne" | "lt" | "le" | "gt" | "ge", _) => Err(format!("'{name}' needs at least 2 values")),
            ("not" | "len" | "default" | "printf", _) => Err(format!("'{name}' has the wrong values")),
            _ => Err(format!("unknown function '{name}'")),
        }
    }

    fn length(&self, value: &Value) -> Evaluated {
        let length = match value {
            Value::Text(text) => text.len(),
            Value::Vars => self.vars.len(),
            other => return Err(format!("'len' needs text, not {}", kind_of(other))),
        };
        i64::try_from(length).map(Value::Number).map_err(|why| why.to_string())
    }
}

fn bounded(bytes: usize) -> Result<(), String> {
    if bytes <= MAX_SPEC_BYTES {
        Ok(())
    } else {
        Err(format!("the rendered text is larger than {MAX_SPEC_BYTES} bytes"))
    }
}

fn text(content: String) -> Evaluated {
    // Far below the limit of a file, since one action could hold it many times.
    bounded(content.len().saturating_mul(16))?;
    Ok(Value::Text(content))
}

fn printed(value: &Value) -> String {
    match value {
        Value::Nil => "<no value>".into(),
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Vars => "map".into(),
    }
}

/// Go's `print`: a space between two values when neither is text.
fn printed_together(values: &[Value]) -> String {
    let mut output = String::new();
    for (index, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if index > 0 && !is_text(value) && !is_text(&values[index - 1]) {
            output.push(' ');
        }
        output.push_str(&printed(value));
    }
    output
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Flag(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Text(_) => "text",
        Value::Vars => "all variables",
    }
}

fn equals_any(value: &Value, others: &[Value]) -> Evaluated {
    for other in others {
        if compared(value, other)? == Ordering::Equal {
            return Ok(Value::Flag(true));
        }
    }
    Ok(Value::Flag(false))
}

fn compared(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => Ok(a.cmp(b)),
        (Value::Flag(a), Value::Flag(b)) => Ok(a.cmp(b)),
        (Value::Nil, Value::Nil) => Ok(Ordering::Equal),
        (Value::Text(_), Value::Number(_)) | (Value::Number(_), Value::Text(_)) => {
            Err("cannot compare text with a number: write the number in quotes".into())
        }
        (a, b) => Err(format!("cannot compare {} with {}", kind_of(a), kind_of(b))),
    }
}

/// `printf` with `%s`, `%v`, `%d`, `%q`, `%t`, `%%` and a width, which may start with 0 or `-`.
fn formatted(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut output = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        output.push_str(&rest[..start]);
        let directive = &rest[start + 1..];
        let flags = directive.find(|c: char| !c.is_ascii_digit() && c != '-').ok_or("'%' ends the format")?;
        let verb = directive[flags..].chars().next().ok_or("'%' ends the format")?;
        rest = &directive[flags + verb.len_utf8()..];
        if verb == '%' {
            output.push('%');
            continue;
        }
        let argument = arguments.next().ok_or("'printf' has fewer values than '%'")?;
        output.push_str(&padded(&shown(verb, argument)?, &directive[..flags])?);
    }
    output.push_str(rest);
    if arguments.next().is_some() { Err("'printf' has more values than '%'".into()) } else { Ok(output) }
}

fn shown(verb: char, value: &Value) -> Result<String, String> {
    match (verb, value) {
        ('v', value) => Ok(printed(value)),
        ('s', Value::Text(text)) => Ok(text.clone()),
        ('q', Value::Text(text)) => Ok(format!("{text:?}")),
        ('d', Value::Number(number)) => Ok(number.to_string()),
        ('t', Value::Flag(flag)) => Ok(flag.to_string()),
        (verb, value) => Err(format!("'%{verb}' cannot show {}", kind_of(value))),
    }
}

fn padded(text: &str, flags: &str) -> Result<String, String> {
    if flags.is_empty() {
        return Ok(text.to_owned());
    }
    let (left, digits) = flags.strip_prefix('-').map_or((false, flags), |digits| (true, digits));
    let width = digits.parse().ok().filter(|width| *width <= MAX_WIDTH).ok_or("'%' has a wrong width")?;
    Ok(match (left, digits.starts_with('0')) {
        (true, _) => format!("{text:<width$}"),
        (false, true) => format!("{text:0>width$}"),
        (false, false) => format!("{text:>width$}"),
    })
}
