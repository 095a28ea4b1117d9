//! From words to a tree.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::Error;
use super::lex::{Part, Word, split};

/// A piece of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    /// Another template by name, and its dot.
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

/// Commands, each given the value of the one before, and the variables that get the result.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

/// A word with a value.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Constant(Value),
    Nested(Pipeline, Vec<String>),
}

/// How deep actions and parentheses may be nested.
const DEPTH: usize = 100;

/// A template, and those it defines by name.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

pub(super) fn parse(text: &str) -> Result<Tree, Error> {
    let mut parts = Parts {
        rest: split(text)?.into_iter(),
        defined: BTreeMap::new(),
        loops: 0,
    };
    let (nodes, end) = block(&mut parts, 0)?;
    match end {
        None => Ok(Tree {
            nodes,
            defined: parts.defined,
        }),
        Some(words) => Err(Error::new(format!(
            "unexpected {{{{{}}}}}",
            keyword(&words)
        ))),
    }
}

fn keyword(words: &[Word]) -> &str {
    match words.first() {
        Some(Word::Name(name)) => name,
        _ => "",
    }
}

/// What is left of a template, and what it has defined.
struct Parts {
    rest: std::vec::IntoIter<Part>,
    defined: BTreeMap<String, Vec<Node>>,
    /// How many `range` are around what is parsed.
    loops: usize,
}

/// Nodes up to an `end` or `else`, and the words of that.
fn block(parts: &mut Parts, depth: usize) -> Result<(Vec<Node>, Option<Vec<Word>>), Error> {
    if depth > DEPTH {
        return Err(Error::new("too deeply nested"));
    }
    let mut nodes = Vec::new();
    while let Some(part) = parts.rest.next() {
        let words = match part {
            Part::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Part::Action(words) => words,
        };
        match keyword(&words) {
            "end" | "else" => return Ok((nodes, Some(words))),
            "if" => nodes.push(conditional(&words[1..], parts, depth)?),
            "with" => nodes.push(with(&words[1..], parts, depth)?),
            "range" => {
                let pipeline = pipeline_of(&words[1..], 2)?;
                parts.loops += 1;
                let body = body(parts, depth);
                parts.loops -= 1;
                let (body, other) = body?;
                nodes.push(Node::Range(pipeline, body, other));
            }
            word @ ("break" | "continue") => {
                if parts.loops == 0 {
                    return Err(Error::new(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                nodes.push(match word {
                    "break" => Node::Break,
                    _ => Node::Continue,
                });
            }
            "define" if depth > 0 => return Err(Error::new("unexpected {{define}} in a block")),
            "define" => {
                let (name, _) = template_name(&words)?;
                let body = body_alone(parts, depth)?;
                parts.defined.insert(name, body);
            }
            "block" => {
                let (name, dot) = template_name(&words)?;
                let dot = dot.ok_or_else(|| Error::new("missing value for block clause"))?;
                let body = body_alone(parts, depth)?;
                parts.defined.entry(name.clone()).or_insert(body);
                nodes.push(Node::Template(name, Some(dot)));
            }
            "template" => {
                let (name, dot) = template_name(&words)?;
                nodes.push(Node::Template(name, dot));
            }
            _ => nodes.push(Node::Print(pipeline(&words)?)),
        }
    }
    Ok((nodes, None))
}

/// The name and the dot of `template`, `block` or `define`.
fn template_name(words: &[Word]) -> Result<(String, Option<Pipeline>), Error> {
    let Some(Word::Text(name)) = words.get(1) else {
        return Err(Error::new(format!(
            "{} needs the name of a template in quotes",
            keyword(words)
        )));
    };
    let dot = match &words[2..] {
        [] => None,
        rest => Some(pipeline(rest)?),
    };
    Ok((name.clone(), dot))
}

/// The body of `define` or `block`, which have no `else`.
fn body_alone(parts: &mut Parts, depth: usize) -> Result<Vec<Node>, Error> {
    // A loop around it is not a loop within it.
    let loops = std::mem::take(&mut parts.loops);
    let parsed = block(parts, depth + 1);
    parts.loops = loops;
    match parsed? {
        (nodes, Some(words)) if keyword(&words) == "end" => Ok(nodes),
        _ => Err(Error::new("expected end")),
    }
}

/// The body of `range`, and what stands behind its `else`.
fn body(parts: &mut Parts, depth: usize) -> Result<(Vec<Node>, Vec<Node>), Error> {
    let (nodes, end) = block(parts, depth + 1)?;
    match end.as_deref().map(keyword) {
        Some("end") => Ok((nodes, Vec::new())),
        Some("else") => {
            alone(end.as_deref().unwrap_or_default())?;
            match block(parts, depth + 1)? {
                (other, Some(words)) if keyword(&words) == "end" => Ok((nodes, other)),
                _ => Err(Error::new("expected end")),
            }
        }
        _ => Err(Error::new("unexpected EOF")),
    }
}

/// A word that has nothing behind it.
fn alone(words: &[Word]) -> Result<(), Error> {
    match words {
        [_] => Ok(()),
        _ => Err(Error::new(format!(
            "unexpected words after {}",
            keyword(words)
        ))),
    }
}

/// A `with`; one behind an `else` is a block of its own that ends where this one does.
fn with(words: &[Word], parts: &mut Parts, depth: usize) -> Result<Node, Error> {
    let condition = pipeline_of(words, 1)?;
    let (body, end) = block(parts, depth + 1)?;
    let end = end.ok_or_else(|| Error::new("unexpected EOF"))?;
    let other = match (keyword(&end), end.get(1)) {
        ("end", _) => Vec::new(),
        (_, Some(Word::Name(name))) if name == "with" => {
            if depth > DEPTH {
                return Err(Error::new("too deeply nested"));
            }
            vec![with(&end[2..], parts, depth + 1)?]
        }
        _ => {
            alone(&end)?;
            match block(parts, depth + 1)? {
                (other, Some(words)) if keyword(&words) == "end" => other,
                _ => return Err(Error::new("expected end")),
            }
        }
    };
    Ok(Node::With(condition, body, other))
}

fn conditional(words: &[Word], parts: &mut Parts, depth: usize) -> Result<Node, Error> {
    let mut branches = Vec::new();
    let mut condition = pipeline(words)?;
    loop {
        let (nodes, end) = block(parts, depth + 1)?;
        branches.push((condition, nodes));
        let end = end.ok_or_else(|| Error::new("unexpected EOF"))?;
        match (keyword(&end), end.get(1)) {
            ("end", _) => return Ok(Node::If(branches, Vec::new())),
            (_, Some(Word::Name(name))) if name == "if" => condition = pipeline(&end[2..])?,
            _ => {
                alone(&end)?;
                match block(parts, depth + 1)? {
                    (other, Some(words)) if keyword(&words) == "end" => {
                        return Ok(Node::If(branches, other));
                    }
                    _ => return Err(Error::new("expected end")),
                }
            }
        }
    }
}

fn pipeline(words: &[Word]) -> Result<Pipeline, Error> {
    pipeline_of(words, 1)
}

/// A pipeline that declares so many variables at most.
fn pipeline_of(words: &[Word], variables: usize) -> Result<Pipeline, Error> {
    let mut at = 0;
    let parsed = pipeline_from(words, &mut at, 0)?;
    if at < words.len() {
        return Err(Error::new("unexpected right paren"));
    }
    if parsed.variables.len() > variables {
        return Err(Error::new("too many declarations"));
    }
    Ok(parsed)
}

/// Parses up to the end or a closing parenthesis, which is left.
fn pipeline_from(words: &[Word], at: &mut usize, depth: usize) -> Result<Pipeline, Error> {
    if depth > DEPTH {
        return Err(Error::new("too deeply nested"));
    }
    let mut pipeline = Pipeline {
        variables: Vec::new(),
        declares: false,
        commands: Vec::new(),
    };
    declarations(words, at, &mut pipeline);
    let mut operands = Vec::new();
    while let Some(word) = words.get(*at) {
        if matches!(word, Word::Close(_)) {
            break;
        }
        *at += 1;
        operands.push(match word {
            Word::Pipe => {
                pipeline
                    .commands
                    .push(command(std::mem::take(&mut operands))?);
                continue;
            }
            Word::Field(fields) if fields.is_empty() => Operand::Dot,
            Word::Field(fields) => Operand::Field(fields.clone()),
            Word::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
            Word::Text(text) => Operand::Constant(Value::from(text.clone())),
            Word::Number(number) => Operand::Constant(Value::Number(Number::clone(number))),
            Word::Name(name) => match name.as_str() {
                "true" => Operand::Constant(Value::Bool(true)),
                "false" => Operand::Constant(Value::Bool(false)),
                "nil" => Operand::Constant(Value::Null),
                _ => Operand::Function(name.clone()),
            },
            Word::Open => {
                let inner = pipeline_from(words, at, depth + 1)?;
                let Some(Word::Close(fields)) = words.get(*at) else {
                    return Err(Error::new("unclosed left paren"));
                };
                *at += 1;
                Operand::Nested(inner, fields.clone())
            }
            Word::Close(_) | Word::Declare | Word::Assign | Word::Comma => {
                return Err(Error::new("unexpected token in operand"));
            }
        });
    }
    pipeline.commands.push(command(operands)?);
    Ok(pipeline)
}

fn command(operands: Vec<Operand>) -> Result<Command, Error> {
    match operands.first() {
        None => Err(Error::new("missing value for command")),
        Some(Operand::Constant(Value::Null)) => Err(Error::new("nil is not a command")),
        Some(_) => Ok(Command { operands }),
    }
}

/// `$a :=`, `$a, $b :=` or `$a =` at the beginning.
fn declarations(words: &[Word], at: &mut usize, pipeline: &mut Pipeline) {
    let name = |index: usize| match words.get(index) {
        Some(Word::Variable(name, fields)) if fields.is_empty() => Some(name.clone()),
        _ => None,
    };
    let mut next = *at;
    let mut names = Vec::new();
    while let Some(variable) = name(next) {
        names.push(variable);
        next += 1;
        if words.get(next) != Some(&Word::Comma) {
            break;
        }
        next += 1;
    }
    if !names.is_empty() && matches!(words.get(next), Some(Word::Declare | Word::Assign)) {
        pipeline.declares = words.get(next) == Some(&Word::Declare);
        pipeline.variables = names;
        *at = next + 1;
    }
}
