//! ONNX's messages (`onnx.proto`), as far as they are used.

use crate::protobuf::Message;
use std::borrow::Cow;

/// The version of the format that came with the opset.
const IR_VERSION: i64 = 8;
/// The version of the operators.
pub(super) const OPSET: i64 = 17;

/// `TensorProto.DataType`.
#[derive(Clone, Copy)]
pub(super) enum ElementType {
    Float = 1,
    Uint8 = 2,
}

/// A size of a tensor: a number, or a name where any number will do.
pub(super) enum Axis {
    Any(&'static str),
    Size(usize),
}

/// An attribute's value.
pub(super) enum Attribute {
    Float(f32),
    Int(i64),
    Ints(Vec<usize>),
}

/// `ModelProto`, with what people and programs may want to know beside the graph.
pub(super) fn model<'a>(graph: Message<'a>, metadata: &[(&str, String)]) -> Message<'a> {
    let entry = |(key, value): &(&str, String)| Message::new().text(1, key).text(2, value);
    Message::new()
        .int(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, graph)
        .message(8, Message::new().text(1, "").int(2, OPSET))
        .messages(14, metadata.iter().map(entry))
}

/// `GraphProto`.
pub(super) fn graph<'a>(
    nodes: Vec<Message<'a>>,
    initializers: Vec<Message<'a>>,
    input: Message<'a>,
    output: Message<'a>,
) -> Message<'a> {
    Message::new()
        .messages(1, nodes)
        .text(2, env!("CARGO_PKG_NAME"))
        .messages(5, initializers)
        .message(11, input)
        .message(12, output)
}

/// `NodeProto`: an operator whose one result has the node's name.
pub(super) fn node<'a>(
    operator: &str,
    name: &str,
    inputs: &[&str],
    attributes: &[(&str, Attribute)],
) -> Message<'a> {
    let inputs = inputs.iter().copied();
    let attributes = attributes
        .iter()
        .map(|(name, value)| attribute(name, value));
    inputs
        .fold(Message::new(), |message, input| message.text(1, input))
        .text(2, name)
        .text(3, name)
        .text(4, operator)
        .messages(5, attributes)
}

/// `AttributeProto`.
fn attribute<'a>(name: &str, value: &Attribute) -> Message<'a> {
    let message = Message::new().text(1, name);
    match value {
        Attribute::Float(value) => message.float(2, *value).int(20, 1),
        Attribute::Int(value) => message.int(3, *value).int(20, 2),
        Attribute::Ints(values) => {
            let values = values.iter();
            let message = values.fold(message, |message, &value| message.int(8, value as i64));
            message.int(20, 7)
        }
    }
}

/// `TensorProto` of numbers in `f32`.
pub(super) fn tensor<'a>(name: &str, shape: &[usize], values: Cow<'a, [f32]>) -> Message<'a> {
    let sizes = shape.iter();
    sizes
        .fold(Message::new(), |message, &size| message.int(1, size as i64))
        .int(2, ElementType::Float as i64)
        .text(8, name)
        .tensor(9, values)
}

/// `ValueInfoProto`: an input or output of the graph.
pub(super) fn value<'a>(name: &str, element: ElementType, axes: &[Axis]) -> Message<'a> {
    let axis = |axis: &Axis| match axis {
        Axis::Size(size) => Message::new().int(1, *size as i64),
        Axis::Any(name) => Message::new().text(2, name),
    };
    let shape = Message::new().messages(1, axes.iter().map(axis));
    let tensor = Message::new().int(1, element as i64).message(2, shape);
    Message::new()
        .text(1, name)
        .message(2, Message::new().message(1, tensor))
}
