//! From text to [`Architecture`] and back.
//!
//! Syntax is the algebra crate's; this file gives settings and stage labels their meaning. The
//! printed form names every setting, so that it means the same after defaults change.

use super::presets;
use super::{ArchError, Architecture, Family, ResidualScale, Sharing, Stage, Width};
use polynet_algebra::{Error, Module, Setting, SettingValue, Span, StageSyntax, parse_network};
use std::fmt;
use std::str::FromStr;

/// Largest input in pixels: far above any use, small enough that no product overflows.
const MAX_INPUT_SIZE: usize = 8192;
/// Most classes.
const MAX_CLASSES: usize = 1_000_000;
/// Largest width multiplier.
const MAX_WIDTH: f64 = 16.0;
/// Largest residual scale.
const MAX_SCALE: f64 = 100.0;

impl FromStr for Architecture {
    type Err = ArchError;

    /// Reads a network: presets, stages and settings; see the module documentation.
    ///
    /// # Errors
    /// Points at the place in the text.
    fn from_str(text: &str) -> Result<Self, ArchError> {
        let network = parse_network(text)?;
        let mut draft = match &network.base {
            Some(base) => match presets::find(&base.value) {
                Some(preset) => Draft::from_str(&preset.spec)?,
                None => return Err(unknown_preset(text, &base.value, base.span).into()),
            },
            None => Draft::default(),
        };
        draft.apply(text, &network.settings, &network.stages)?;
        draft.finish(text)
    }
}

/// A network whose text is read only in part.
#[derive(Default)]
struct Draft {
    family: Option<Family>,
    width: Option<f64>,
    block_width: Option<f64>,
    input_size: Option<usize>,
    num_classes: Option<usize>,
    sharing: Option<Sharing>,
    residual_scale: Option<ResidualScale>,
    /// Where `scale = slim` stands.
    slim_scale: Option<Span>,
    dropout: Option<f64>,
    stages: Vec<StageSyntax>,
}

impl Draft {
    fn from_str(text: &str) -> Result<Self, ArchError> {
        let network = parse_network(text)?;
        let mut draft = Self::default();
        draft.apply(text, &network.settings, &network.stages)?;
        Ok(draft)
    }

    fn apply(
        &mut self,
        source: &str,
        settings: &[Setting],
        stages: &[StageSyntax],
    ) -> Result<(), ArchError> {
        for setting in settings {
            self.set(source, setting)?;
        }
        for stage in stages {
            let known = self
                .stages
                .iter_mut()
                .find(|known| known.label.value == stage.label.value);
            match known {
                Some(known) => *known = stage.clone(),
                None => self.stages.push(stage.clone()),
            }
        }
        Ok(())
    }

    fn set(&mut self, source: &str, setting: &Setting) -> Result<(), ArchError> {
        let read = SettingReader { source, setting };
        match setting.key.value.as_str() {
            "family" => {
                let families = Family::ALL.map(|family| (family.name(), family));
                self.family = Some(read.choice(&families)?);
            }
            "width" => self.width = Some(read.number(1.0 / 64.0, MAX_WIDTH)?),
            "block-width" => self.block_width = Some(read.number(1.0 / 64.0, MAX_WIDTH)?),
            "input" => self.input_size = Some(read.count(MAX_INPUT_SIZE)?),
            "classes" => self.num_classes = Some(read.count(MAX_CLASSES)?),
            "sharing" => {
                let policies = [("full", Sharing::Full), ("release", Sharing::Release)];
                self.sharing = Some(read.choice(&policies)?);
            }
            "scale" => {
                if matches!(&setting.value.value, SettingValue::Word(word) if word == "slim") {
                    self.slim_scale = Some(setting.value.span);
                }
                self.residual_scale = Some(read.residual_scale()?);
            }
            "dropout" => self.dropout = Some(read.number(0.0, 0.999)?),
            key => {
                let message = format!("unknown setting `{key}`");
                let known = "family, width, block-width, input, classes, sharing, scale, dropout";
                let help = Some(format!("the settings are {known}"));
                return Err(Error::custom(source, setting.key.span, message, help).into());
            }
        }
        Ok(())
    }

    fn finish(self, source: &str) -> Result<Architecture, ArchError> {
        let family = self.family.unwrap_or(Family::Imagenet);
        let width = Width(self.width.unwrap_or(1.0));
        if let Some(span) = self.slim_scale
            && self.residual_scale == Some(ResidualScale::Slim)
            && family.is_resnet()
        {
            let name = family.name();
            let message = format!("`scale = slim` is for three stages, family `{name}` has four");
            let help = Some("give a number, such as `scale = 1`".to_owned());
            return Err(Error::custom(source, span, message, help).into());
        }
        let block_width = self.block_width.map_or(width, Width);
        let stages = self.stages_of(family, width, block_width, source)?;
        Ok(Architecture {
            family,
            width,
            block_width,
            input_size: self.input_size.unwrap_or(family.default_input_size()),
            num_classes: self.num_classes.unwrap_or(family.default_classes()),
            sharing: self.sharing.unwrap_or(Sharing::Full),
            residual_scale: self
                .residual_scale
                .unwrap_or(family.default_residual_scale()),
            dropout: self.dropout.unwrap_or(family.default_dropout()),
            stages,
        })
    }

    /// One stage for each label of the family, in the family's order.
    fn stages_of(
        &self,
        family: Family,
        width: Width,
        block_width: Width,
        source: &str,
    ) -> Result<Vec<Stage>, ArchError> {
        let labels = family.stage_labels();
        let listed = labels.join(", ");
        if let Some(stage) = self
            .stages
            .iter()
            .find(|stage| !labels.contains(&stage.label.value.as_str()))
        {
            let (label, name) = (&stage.label.value, family.name());
            let message = format!("family `{name}` has no stage `{label}`");
            let help = Some(format!("its stages are {listed}"));
            return Err(Error::custom(source, stage.label.span, message, help).into());
        }
        labels
            .iter()
            .enumerate()
            .map(|(index, &label)| {
                let found = self.stages.iter().find(|s| s.label.value == label);
                let syntax = found.ok_or_else(|| {
                    let message = format!("stage `{label}` is missing");
                    let help = Some(format!(
                        "family `{}` has the stages {listed}; write for example `{label}: 2-way x3`",
                        family.name()
                    ));
                    let end = Span::new(source.len(), source.len());
                    Error::custom(source, end, message, help)
                })?;
                Ok(Stage {
                    label: label.to_owned(),
                    text: sequence_text(&syntax.modules()),
                    entry: family.entry(index, width, block_width),
                    block: family.block(index, width, block_width),
                    modules: syntax.modules(),
                    previous: index
                        .checked_sub(1)
                        .filter(|_| !family.is_resnet())
                        .map(|index| labels[index].to_owned()),
                })
            })
            .collect()
    }
}

/// Reads the value of one setting, with errors that point at it.
struct SettingReader<'a> {
    source: &'a str,
    setting: &'a Setting,
}

impl SettingReader<'_> {
    fn error(&self, expected: &str) -> ArchError {
        let key = &self.setting.key.value;
        let span = self.setting.value.span;
        let found = &self.source[span.range()];
        let message = format!("`{key}` must be {expected}, not `{found}`");
        Error::custom(self.source, span, message, None).into()
    }

    fn number(&self, low: f64, high: f64) -> Result<f64, ArchError> {
        match self.setting.value.value {
            SettingValue::Number(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(self.error(&format!("a number from {low} to {high}"))),
        }
    }

    fn count(&self, high: usize) -> Result<usize, ArchError> {
        match self.setting.value.value {
            SettingValue::Number(number)
                if (1.0..=high as f64).contains(&number) && number.fract() == 0.0 =>
            {
                Ok(number as usize)
            }
            _ => Err(self.error(&format!("a whole number from 1 to {high}"))),
        }
    }

    fn residual_scale(&self) -> Result<ResidualScale, ArchError> {
        let (SettingValue::Word(text) | SettingValue::Text(text)) = &self.setting.value.value
        else {
            return self.number(0.0, MAX_SCALE).map(ResidualScale::Constant);
        };
        let number = |text: &str| {
            let number = text.trim().parse::<f64>().ok();
            number.filter(|number| (0.0..=MAX_SCALE).contains(number))
        };
        match text.as_str() {
            "release" => return Ok(ResidualScale::Release),
            "slim" => return Ok(ResidualScale::Slim),
            _ => {}
        }
        let ends = text.split_once("..").map(|(a, b)| (number(a), number(b)));
        match ends {
            Some((Some(first), Some(last))) => Ok(ResidualScale::Linear { first, last }),
            _ => Err(self.error(&format!(
                "a number from 0 to {MAX_SCALE}, two of them for the first and the last module \
                 such as \"0.3..0.225\", `release` or `slim`"
            ))),
        }
    }

    fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ArchError> {
        let word = match &self.setting.value.value {
            SettingValue::Word(word) | SettingValue::Text(word) => word.as_str(),
            SettingValue::Number(_) => "",
        };
        let found = choices.iter().find(|(name, _)| *name == word);
        found.map(|&(_, choice)| choice).ok_or_else(|| {
            let names: Vec<String> = choices
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            self.error(&names.join(" or "))
        })
    }
}

/// A stage's modules as text, with the shortest repetition that gives them.
fn sequence_text(modules: &[Module]) -> String {
    let texts: Vec<String> = modules
        .iter()
        .map(|module| {
            let text = without_parentheses(&module.text);
            match text.contains(' ') {
                true => format!("({text})"),
                false => text.to_owned(),
            }
        })
        .collect();
    let period = (1..=texts.len())
        .filter(|period| texts.len().is_multiple_of(*period))
        .find(|&period| texts.iter().zip(&texts[period..]).all(|(a, b)| a == b))
        .unwrap_or(texts.len());
    let repeated = texts[..period].join(" -> ");
    match (period, texts.len() / period) {
        (_, 1) => repeated,
        (1, times) => format!("{repeated} x{times}"),
        (_, times) => format!("({repeated}) x{times}"),
    }
}

/// `I + F` from `((I + F))`; text with another structure stays as it is.
fn without_parentheses(text: &str) -> &str {
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'));
    let Some(inner) = inner else { return text };
    let mut depth = 0_usize;
    for character in inner.chars() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => return text,
            ')' => depth -= 1,
            _ => {}
        }
    }
    without_parentheses(inner.trim())
}

fn unknown_preset(source: &str, name: &str, span: Span) -> Error {
    let nearest = presets::nearest(name);
    let help = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`? `polynet list` shows every preset"),
        None => "`polynet list` shows every preset; a stage is written `A: 2-way x10`".to_owned(),
    };
    Error::custom(source, span, format!("unknown preset `{name}`"), Some(help))
}

impl fmt::Display for Architecture {
    /// The network in the algebra's language, every setting spelled out; `block-width` where it is
    /// not the width.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "family = {}; width = {}; ",
            self.family.name(),
            self.width.0
        )?;
        if self.block_width != self.width {
            write!(f, "block-width = {}; ", self.block_width.0)?;
        }
        write!(
            f,
            "input = {}; classes = {}; sharing = {}; ",
            self.input_size,
            self.num_classes,
            match self.sharing {
                Sharing::Full => "full",
                Sharing::Release => "release",
            },
        )?;
        match self.residual_scale {
            ResidualScale::Constant(scale) => write!(f, "scale = {scale}; ")?,
            ResidualScale::Linear { first, last } => write!(f, "scale = \"{first}..{last}\"; ")?,
            ResidualScale::Release => write!(f, "scale = release; ")?,
            ResidualScale::Slim => write!(f, "scale = slim; ")?,
        }
        write!(f, "dropout = {}", self.dropout)?;
        self.stages
            .iter()
            .try_for_each(|stage| write!(f, "; {}: {}", stage.label, stage.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_form_is_the_same_network() {
        for preset in presets::all() {
            let network: Architecture = preset.spec.parse().unwrap();
            let again: Architecture = network.to_string().parse().unwrap();
            assert_eq!(again.to_string(), network.to_string());
            assert_eq!(again.graph().unwrap(), network.graph().unwrap());
        }
    }

    #[test]
    fn blocks_as_wide_as_all_else_are_not_said_to_be() {
        let same: Architecture = "ir-3-6-3; width = 0.5; block-width = 0.5".parse().unwrap();
        let plain: Architecture = "ir-3-6-3; width = 0.5".parse().unwrap();
        assert_eq!(same.to_string(), plain.to_string());
        let wide: Architecture = "ir-3-6-3; width = 0.5; block-width = 1".parse().unwrap();
        let again: Architecture = wide.to_string().parse().unwrap();
        assert!(wide.to_string().contains("; block-width = 1; "), "{wide}");
        assert_eq!(again.graph().unwrap(), wide.graph().unwrap());
        assert_ne!(wide.graph().unwrap(), plain.graph().unwrap());
    }

    #[test]
    fn bad_text_is_an_error_that_says_what_to_do() {
        let cases = [
            ("very-deep-polynett", "did you mean `very-deep-polynet`"),
            ("A: 2-way", "stage `B` is missing"),
            ("ir-3-6-3; D: 2-way", "its stages are A, B, C"),
            ("ir-3-6-3; classes = 0", "a whole number from 1"),
            ("ir-3-6-3; classes = 2.5", "a whole number from 1"),
            ("ir-3-6-3; sharing = some", "`full` or `release`"),
            ("ir-3-6-3; scales = 1", "unknown setting `scales`"),
            ("ir-3-6-3; width = 1000", "a number from"),
            ("ir-3-6-3; block-width = 0", "a number from"),
            ("resnet-50; scale = slim", "is for three stages"),
            ("ir-3-6-3; family = resnet-v2", "`resnet-v1`"),
            ("ir-3-6-3; scale = -1", "a number from 0 to 100"),
            ("ir-3-6-3; scale = \"0.3\"", "two of them for the first"),
            (
                "ir-3-6-3; scale = \"0.3..inf\"",
                "two of them for the first",
            ),
            ("ir-3-6-3; scale = some", "`release`"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Architecture>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_scale_runs_from_the_first_module_to_the_last() {
        let network: Architecture = "ir-3-6-3; scale = \"0.3..0.08\"".parse().unwrap();
        let scales = network.residual_scales();
        assert_eq!((scales.len(), scales[0]), (12, 0.3));
        assert!((scales[11] - 0.08).abs() < 1e-12 && (scales[1] - 0.28).abs() < 1e-12);
        let again: Architecture = network.to_string().parse().unwrap();
        assert_eq!(again.graph().unwrap(), network.graph().unwrap());
    }

    #[test]
    fn the_release_is_scale_one_after_paths_dropped_up_to_three_tenths() {
        let release: Architecture = "very-deep-polynet".parse().unwrap();
        let trained: Architecture = "very-deep-polynet; scale = 1".parse().unwrap();
        let predicting = trained.with_survival(0.3).unwrap();
        let pairs = release.residual_scales().into_iter();
        for (release, ours) in pairs.zip(predicting.residual_scales()) {
            assert!((release - ours).abs() < 1e-12, "{release} {ours}");
        }
        let paper: Architecture = "ir-3-6-3".parse().unwrap();
        let paper = paper.with_survival(0.25).unwrap().to_string();
        assert!(paper.contains("scale = \"0.3..0.225\";"), "{paper}");
        // Its scale holds the chances of survival already.
        assert!(release.with_survival(0.3).is_none());
        assert!(predicting.with_survival(0.3).is_none());
    }

    #[test]
    fn stages_print_with_the_shortest_repetition() {
        let stage = |text: &str| sequence_text(&polynet_algebra::parse_sequence(text).unwrap());
        let table = [
            ("2-way", "2-way"),
            ("2-way → 2-way", "2-way x2"),
            ("(poly-3 -> 2-way) × 5", "(poly-3 -> 2-way) x5"),
            ("I + F x3", "(I + F) x3"),
            ("(I + G)(I + F)", "((I + G)(I + F))"),
            ("2-way -> I + F -> I + F", "2-way -> (I + F) -> (I + F)"),
        ];
        for (text, printed) in table {
            assert_eq!(stage(text), printed);
        }
    }

    #[test]
    fn slim_scales_are_by_stage_and_one_in_the_last_module() {
        let text = "inception-resnet-v2; A: (I + F) x2; B: (I + F) x2; C: (I + F) x2";
        let network: Architecture = text.parse().unwrap();
        assert_eq!(
            network.residual_scales(),
            [0.17, 0.17, 0.10, 0.10, 0.20, 1.0]
        );
    }

    #[test]
    fn a_stage_of_a_preset_can_be_replaced() {
        let network: Architecture = "ir-3-6-3; B: mpoly-3 x6".parse().unwrap();
        let preset: Architecture = "ir-3-6-3-b-mpoly-3".parse().unwrap();
        assert_eq!(network.graph().unwrap(), preset.graph().unwrap());
    }

    #[test]
    fn an_input_too_small_is_an_error_that_names_the_layer() {
        let network: Architecture = "ir-3-6-3; input = 20".parse().unwrap();
        let error = network.graph().unwrap_err().to_string();
        assert!(error.contains("input of 20 px is too small"), "{error}");
    }
}
