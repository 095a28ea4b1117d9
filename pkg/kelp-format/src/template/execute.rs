//! Walking the tree with a value.

use serde_json::{Map, Value};

use super::Error;
use super::functions::{call, truth};
use super::parse::{Command, Node, Operand, Pipeline, Tree};
use super::value::{display, print};

/// What a loop's body asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// How deep templates may call each other.
const CALLS: usize = 100;

/// Fields that are maps: what they lack is no value, where an object's missing field is an error.
const MAPS: &[&str] = &[
    "Annotations",
    "Driver",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Storage",
    "Sysctls",
    "Volumes",
];

/// Names that Go or an earlier version has for a field, and the field: podman rewrites templates so.
/// One that is there goes first.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("Dst", "Destination"),
    ("HealthCheck", "Healthcheck"),
    ("ID", "Id"),
    ("Id", "ID"),
    ("ImageID", "Image"),
    ("Src", "Source"),
];

struct Run<'a> {
    output: String,
    variables: Vec<(String, Value)>,
    tree: &'a Tree,
    calls: usize,
    heading: bool,
}

pub(super) fn execute(tree: &Tree, value: &Value, heading: bool) -> Result<String, Error> {
    let mut run = Run {
        output: String::new(),
        variables: vec![(String::new(), value.clone())],
        tree,
        calls: 0,
        heading,
    };
    run.nodes(&tree.nodes, value)?;
    Ok(run.output)
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        let depth = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                self.variables.truncate(depth);
                return Ok(flow);
            }
        }
        // A variable lives to the end of the block it was declared in.
        self.variables.truncate(depth);
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.output.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.output.push_str(&display(&value));
                }
            }
            Node::If(branches, other) => {
                let depth = self.variables.len();
                for (condition, body) in branches {
                    if truth(&self.pipeline(condition, dot)?) {
                        let flow = self.nodes(body, dot)?;
                        self.variables.truncate(depth);
                        return Ok(flow);
                    }
                }
                let flow = self.nodes(other, dot)?;
                self.variables.truncate(depth);
                return Ok(flow);
            }
            Node::With(pipeline, body, other) => {
                let depth = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = if truth(&value) {
                    self.nodes(body, &value)?
                } else {
                    self.nodes(other, dot)?
                };
                self.variables.truncate(depth);
                return Ok(flow);
            }
            Node::Range(pipeline, body, other) => return self.range(pipeline, body, other, dot),
            Node::Template(name, dot_of) => {
                let inner = match dot_of {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Value::Null,
                };
                self.template(name, &inner)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// Executes another template, which sees no variable of this one.
    fn template(&mut self, name: &str, dot: &Value) -> Result<(), Error> {
        let tree = self.tree;
        let nodes = tree
            .defined
            .get(name)
            .ok_or_else(|| Error::new(format!("template {name:?} not defined")))?;
        if self.calls == CALLS {
            return Err(Error::new("templates call each other too deeply"));
        }
        self.calls += 1;
        let own = vec![(String::new(), dot.clone())];
        let variables = std::mem::replace(&mut self.variables, own);
        let result = self.nodes(nodes, dot);
        self.variables = variables;
        self.calls -= 1;
        result.map(drop)
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        other: &[Node],
        dot: &Value,
    ) -> Result<Flow, Error> {
        let value = self.commands(pipeline, dot)?;
        let pairs: Vec<(Value, Value)> = match value {
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| (Value::from(index), item))
                .collect(),
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.into_iter().collect();
                fields.sort_by(|one, other| one.0.cmp(&other.0));
                fields
                    .into_iter()
                    .map(|(key, item)| (Value::from(key), item))
                    .collect()
            }
            Value::Number(count) => (0..count.as_u64().unwrap_or(0).min(1_000_000))
                .map(|index| (Value::from(index), Value::from(index)))
                .collect(),
            Value::Null => Vec::new(),
            // The heading of a list is that of its items.
            Value::String(_) if self.heading => vec![(Value::from(0), value)],
            Value::Bool(_) | Value::String(_) => {
                return Err(Error::new(format!(
                    "range can't iterate over {}",
                    print(&value)
                )));
            }
        };
        if pairs.is_empty() {
            return self.nodes(other, dot);
        }
        let depth = self.variables.len();
        for (key, item) in pairs {
            match pipeline.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(depth);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                let place = self
                    .variables
                    .iter_mut()
                    .rev()
                    .find(|(known, _)| known == name);
                let Some((_, place)) = place else {
                    return Err(Error::new(format!("undefined variable: ${name}")));
                };
                place.clone_from(&value);
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Value::Null))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Error> {
        let Operand::Function(name) = &command.operands[0] else {
            if let Some(value) = self.label(command, dot)? {
                return Ok(value);
            }
            let value = self.operand(&command.operands[0], dot)?;
            if command.operands.len() > 1 || piped.is_some() {
                return Err(Error::new(format!(
                    "can't give argument to non-function {}",
                    print(&value)
                )));
            }
            return Ok(value);
        };
        if let Some(value) = self.short_circuit(name, command, dot, piped.as_ref())? {
            return Ok(value);
        }
        let mut arguments = Vec::with_capacity(command.operands.len());
        for operand in &command.operands[1..] {
            arguments.push(self.operand(operand, dot)?);
        }
        if self.heading {
            return Ok(heading_of(command, arguments, piped));
        }
        arguments.extend(piped);
        call(name, &arguments)
    }

    /// `.Label "key"`, the one method with an argument that rows have in podman and docker: a label's
    /// value, or nothing.
    fn label(&mut self, command: &Command, dot: &Value) -> Result<Option<Value>, Error> {
        let [Operand::Field(fields), key] = command.operands.as_slice() else {
            return Ok(None);
        };
        let Some(("Label", row)) = fields.split_last().map(|(last, row)| (last.as_str(), row))
        else {
            return Ok(None);
        };
        let key = self.operand(key, dot)?;
        if self.heading {
            return Ok(Some(key));
        }
        let labels = [row, &["Labels".to_owned()][..]].concat();
        let labels = self.fields(dot, &labels)?;
        let value = key.as_str().and_then(|key| labels.get(key));
        Ok(Some(value.cloned().unwrap_or_else(|| Value::from(""))))
    }

    /// `and` and `or` look at no more arguments than they need.
    fn short_circuit(
        &mut self,
        name: &str,
        command: &Command,
        dot: &Value,
        piped: Option<&Value>,
    ) -> Result<Option<Value>, Error> {
        if self.heading || !matches!(name, "and" | "or") {
            return Ok(None);
        }
        let mut value = None;
        for operand in &command.operands[1..] {
            let next = self.operand(operand, dot)?;
            let decided = truth(&next) == (name == "or");
            value = Some(next);
            if decided {
                return Ok(value);
            }
        }
        Ok(piped.cloned().or(value))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Error> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Field(fields) => self.fields(dot, fields),
            Operand::Variable(name, fields) => {
                let value = self
                    .variables
                    .iter()
                    .rev()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| Error::new(format!("undefined variable: ${name}")))?;
                self.fields(&value, fields)
            }
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Nested(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                self.fields(&value, fields)
            }
            Operand::Function(name) => call(name, &[]),
        }
    }

    fn fields(&self, value: &Value, fields: &[String]) -> Result<Value, Error> {
        let mut value = value;
        let mut in_map = false;
        for field in fields {
            match value {
                Value::Object(object) => match find(object, field, !in_map && !self.heading) {
                    Some(next) => value = next,
                    None if in_map => return Ok(Value::Null),
                    None if self.heading => return Ok(Value::from(heading(field))),
                    None => {
                        return Err(Error::new(format!("can't evaluate field {field}")));
                    }
                },
                Value::String(_) if self.heading => return Ok(Value::from(heading(field))),
                Value::Null => return Ok(Value::Null),
                _ => return Err(Error::new(format!("can't evaluate field {field}"))),
            }
            in_map = MAPS.contains(&field.as_str());
        }
        Ok(value.clone())
    }
}

/// The heading of what a function makes is that of the field it makes it of; constants among the
/// arguments say how, and are none.
fn heading_of(command: &Command, arguments: Vec<Value>, piped: Option<Value>) -> Value {
    let operands = command.operands[1..].iter();
    operands
        .zip(arguments)
        .filter(|(operand, _)| !matches!(operand, Operand::Constant(_)))
        .map(|(_, value)| value)
        .chain(piped)
        .find(Value::is_string)
        .unwrap_or_else(|| Value::from(""))
}

/// The heading of a field that no list gives one: its words in capitals.
fn heading(field: &str) -> String {
    let mut text = String::new();
    let mut before_lower = false;
    for c in field.chars() {
        if c.is_uppercase() && before_lower {
            text.push(' ');
        }
        before_lower = c.is_lowercase();
        text.extend(c.to_uppercase());
    }
    text
}

/// A field, also where another name is meant.
fn find<'a>(object: &'a Map<String, Value>, field: &str, lenient: bool) -> Option<&'a Value> {
    let others = OTHER_NAMES
        .iter()
        .filter(|(other, _)| lenient && *other == field);
    let mut names = std::iter::once(field).chain(others.map(|(_, name)| *name));
    names.find_map(|name| object.get(name))
}
