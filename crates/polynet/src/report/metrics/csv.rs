//! Records as rows: the columns of all kinds side by side, empty where a kind has none.

use super::Record;

pub(super) const HEADER: &str =
    "kind,step,epoch,images,loss,top1,top5,learning_rate,images_per_s,message\n";

/// One row, with its newline.
pub(super) fn line(record: &Record) -> String {
    match record {
        Record::Train(r) => format!(
            "train,{},{},{},{},{},,{},{},\n",
            r.step, r.epoch, r.images, r.loss, r.top1, r.learning_rate, r.images_per_s
        ),
        Record::Validation(r) => format!(
            "validation,{},{},,{},{},{},,,\n",
            r.step, r.epoch, r.loss, r.top1, r.top5
        ),
        Record::Event(r) => format!(
            "event,{},{},,,,,,,{}\n",
            r.step,
            r.epoch,
            quoted(&r.message)
        ),
    }
}

/// A field in quotes where it needs them (RFC 4180); a line break in it becomes a space, so that a
/// row stays a line.
pub(crate) fn quoted(field: &str) -> String {
    let field = field.replace(['\n', '\r'], " ");
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}
