//! Modules that repeat, folded: a group is shown once with its count.

use super::{PartReport, grouped};
use std::fmt;

/// Parts that stand one after the other, and how often: `(poly-3 -> 2-way) x10` has two, ten times.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Group<'a> {
    parts: &'a [PartReport],
    pub(in super::super) times: usize,
}

/// The longest repetition that a group may be of.
const LONGEST_GROUP: usize = 16;

/// The parts in groups, each of which takes as many of the parts as it can.
pub(in super::super) fn groups(parts: &[PartReport]) -> Vec<Group<'_>> {
    let (mut groups, mut rest) = (Vec::new(), parts);
    while !rest.is_empty() {
        let times = |length: usize| {
            let next = rest.iter().skip(length).zip(rest);
            1 + next.take_while(|(next, part)| next.repeats(part)).count() / length
        };
        let lengths = 1..=LONGEST_GROUP.min(rest.len() / 2);
        let repeated = lengths.map(|length| (length, times(length)));
        let (length, times) = repeated
            .filter(|(_, times)| *times > 1)
            .max_by_key(|(length, times)| (length * times, *times))
            .unwrap_or((1, 1));
        let (parts, others) = rest.split_at(length * times);
        groups.push(Group { parts, times });
        rest = others;
    }
    groups
}

impl<'a> Group<'a> {
    /// Its parts without their repetition.
    pub(in super::super) fn once(self) -> &'a [PartReport] {
        &self.parts[..self.parts.len() / self.times]
    }

    /// The name of a part and of those that repeat it: `stage_b.0,2…18 (×10)`.
    fn name(self, index: usize) -> String {
        let mut repeated = self.parts[index..].iter().step_by(self.once().len());
        let mut name = repeated
            .next()
            .map(|part| part.name.clone())
            .unwrap_or_default();
        let position = |part: &PartReport| {
            let position = part.name.rsplit('.').next();
            position.unwrap_or_default().to_owned()
        };
        if self.once().len() > 1 && self.times > 2 {
            name += &repeated
                .next()
                .map(|part| format!(",{}", position(part)))
                .unwrap_or_default();
        }
        match repeated.next_back() {
            Some(last) => format!("{name}…{} (×{})", position(last), self.times),
            None => name,
        }
    }

    pub(super) fn write_row(self, f: &mut fmt::Formatter<'_>, index: usize) -> fmt::Result {
        let part = &self.parts[index];
        let last = &self.parts[self.parts.len() - self.once().len() + index];
        let [channels, height, width] = part.output_shape;
        let times = self.times as u64;
        write!(
            f,
            "{:<24} {:>14} {:>12} {:>10.1}",
            self.name(index),
            format!("{channels}×{height}×{width}"),
            grouped(part.parameters * times),
            (part.macs * times) as f64 / 1e6,
        )?;
        if let Some(module) = &part.module {
            write!(f, "  {}", module.cascaded)?;
            if module.written() != module.cascaded {
                write!(f, "  ({})", module.text)?;
            }
            let scale = module.residual_scale;
            // Without the identity there is no residual sum that would be scaled.
            match &last.module {
                _ if !module.polynomial.contains('I') => {}
                Some(last) if last.residual_scale != scale => {
                    write!(f, "  β {scale:.3}…{:.3}", last.residual_scale)?;
                }
                _ => write!(f, "  β {scale:.3}")?,
            }
            if module.evaluations_saved > 0 {
                write!(f, "  saves {} of {}", module.evaluations_saved, {
                    module.evaluations + module.evaluations_saved
                })?;
            }
        }
        writeln!(f)
    }
}

impl PartReport {
    /// Whether a row can stand for both: modules that differ in their place and scale alone.
    fn repeats(&self, other: &Self) -> bool {
        let (Some(module), Some(others)) = (&self.module, &other.module) else {
            return false;
        };
        // All else about a module follows from these.
        let look = |part: &Self| (part.output_shape, part.parameters, part.macs);
        look(self) == look(other)
            && (&module.text, &module.polynomial) == (&others.text, &others.polynomial)
    }
}

#[cfg(test)]
mod tests {
    use super::super::NetworkReport;
    use super::*;
    use crate::arch::Architecture;

    #[test]
    fn repeated_modules_are_folded() {
        for (stage, names) in [
            ("poly-3", "stage_b.0"),
            ("2-way x3", "stage_b.0…2 (×3)"),
            (
                "(poly-3 -> 2-way) x10",
                "stage_b.0,2…18 (×10) stage_b.1,3…19 (×10)",
            ),
            ("(poly-3 -> 2-way) x2", "stage_b.0…2 (×2) stage_b.1…3 (×2)"),
            (
                "I + F -> (poly-3 -> 2-way) x3 -> poly-3",
                "stage_b.0 stage_b.1,3…5 (×3) stage_b.2,4…6 (×3) stage_b.7",
            ),
            (
                "(2-way x2 -> poly-3) x2",
                "stage_b.0…3 (×2) stage_b.1…4 (×2) stage_b.2…5 (×2)",
            ),
            ("2-way x4 -> poly-3", "stage_b.0…3 (×4) stage_b.4"),
        ] {
            let text = format!("ir-3-6-3; B: {stage}");
            let architecture: Architecture = text.parse().unwrap();
            let report = NetworkReport::new(&text, &architecture, 1).unwrap();
            let groups = groups(&report.parts);
            let parts: usize = groups.iter().map(|group| group.parts.len()).sum();
            assert_eq!(parts, report.parts.len());
            let of_stage: Vec<String> = groups
                .iter()
                .flat_map(|group| (0..group.once().len()).map(|index| group.name(index)))
                .filter(|name| name.starts_with("stage_b."))
                .collect();
            assert_eq!(of_stage.join(" "), names, "{stage}");
            let shown = report.to_string();
            assert!(of_stage.iter().all(|name| shown.contains(name)), "{shown}");
        }
    }
}
