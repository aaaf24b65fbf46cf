//! A plain reader of ONNX files: protobuf's wire format, and the messages that an export writes.

use std::collections::HashMap;

/// What a file says.
pub(super) struct OnnxFile {
    pub(super) opset: u64,
    pub(super) nodes: Vec<OnnxNode>,
    pub(super) tensors: HashMap<String, OnnxTensor>,
    /// Name, type of elements, axes.
    pub(super) input: (String, &'static str, String),
    pub(super) output: (String, &'static str, String),
    pub(super) metadata: HashMap<String, String>,
}

pub(super) struct OnnxNode {
    pub(super) operator: String,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    /// Whole numbers; those of one number are one.
    pub(super) ints: HashMap<String, Vec<usize>>,
    pub(super) floats: HashMap<String, f32>,
}

pub(super) struct OnnxTensor {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// The fields of a message, in order.
struct Fields<'a>(Vec<(u64, Value<'a>)>);

#[derive(Clone, Copy)]
enum Value<'a> {
    Int(u64),
    Float(f32),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first().expect("a varint ends");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

impl<'a> Fields<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Int(varint(&mut bytes)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(value)
                }
                5 => {
                    let (value, rest) = bytes.split_first_chunk().unwrap();
                    bytes = rest;
                    Value::Float(f32::from_le_bytes(*value))
                }
                wire => panic!("wire type {wire}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = Value<'a>> {
        let fields = self.0.iter().filter(move |(number, _)| *number == field);
        fields.map(|(_, value)| *value)
    }

    fn ints(&self, field: u64) -> Vec<usize> {
        let ints = self.all(field).map(|value| match value {
            Value::Int(value) => value as usize,
            _ => panic!("field {field} is no whole number"),
        });
        ints.collect()
    }

    fn bytes(&self, field: u64) -> Vec<&'a [u8]> {
        let bytes = self.all(field).map(|value| match value {
            Value::Bytes(bytes) => bytes,
            _ => panic!("field {field} has no length"),
        });
        bytes.collect()
    }

    fn texts(&self, field: u64) -> Vec<String> {
        let texts = self.bytes(field).into_iter();
        texts
            .map(|text| str::from_utf8(text).unwrap().to_owned())
            .collect()
    }

    fn text(&self, field: u64) -> String {
        only(self.texts(field))
    }

    fn messages(&self, field: u64) -> Vec<Fields<'a>> {
        self.bytes(field).into_iter().map(Fields::of).collect()
    }

    fn message(&self, field: u64) -> Fields<'a> {
        only(self.messages(field))
    }
}

fn only<T>(mut values: Vec<T>) -> T {
    assert_eq!(values.len(), 1);
    values.remove(0)
}

impl OnnxFile {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let model = Fields::of(bytes);
        let graph = model.message(7);
        let entry = |entry: &Fields<'_>| (entry.text(1), entry.text(2));
        Self {
            opset: only(model.message(8).ints(2)) as u64,
            nodes: graph.messages(1).iter().map(node).collect(),
            tensors: graph.messages(5).iter().map(tensor).collect(),
            input: value(&graph.message(11)),
            output: value(&graph.message(12)),
            metadata: model.messages(14).iter().map(entry).collect(),
        }
    }
}

fn node(node: &Fields<'_>) -> OnnxNode {
    let (mut ints, mut floats) = (HashMap::new(), HashMap::new());
    for attribute in node.messages(5) {
        let name = attribute.text(1);
        match only(attribute.ints(20)) {
            1 => {
                let Some(Value::Float(value)) = attribute.all(2).next() else {
                    panic!("{name} has no number");
                };
                floats.insert(name, value);
            }
            2 => drop(ints.insert(name, attribute.ints(3))),
            7 => drop(ints.insert(name, attribute.ints(8))),
            kind => panic!("{name} is of type {kind}"),
        }
    }
    OnnxNode {
        operator: node.text(4),
        inputs: node.texts(1),
        output: node.text(2),
        ints,
        floats,
    }
}

fn tensor(tensor: &Fields<'_>) -> (String, OnnxTensor) {
    assert_eq!(tensor.ints(2), [1], "elements are f32");
    let shape = tensor.ints(1);
    let bytes = only(tensor.bytes(9));
    let values = bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes);
    let values: Vec<f32> = values.collect();
    assert_eq!(values.len(), shape.iter().product::<usize>());
    (tensor.text(8), OnnxTensor { shape, values })
}

fn value(value: &Fields<'_>) -> (String, &'static str, String) {
    let tensor = value.message(2).message(1);
    let element = match only(tensor.ints(1)) {
        1 => "float",
        2 => "uint8",
        kind => panic!("elements of type {kind}"),
    };
    let axes = tensor.message(2).messages(1);
    let axes = axes.iter().map(|axis| match axis.texts(2).pop() {
        Some(name) => name,
        None => only(axis.ints(1)).to_string(),
    });
    (value.text(1), element, axes.collect::<Vec<_>>().join(","))
}
