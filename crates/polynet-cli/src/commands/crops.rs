//! Which crops of an image are looked at and how their scores become one: arguments that several
//! commands share.

use anyhow::{Result, ensure};
use polynet::data::Preprocessing;
use polynet::eval::CropView;
use polynet::eval::crops::{CropPlan, Protocol};
use polynet::eval::pooling::{Pooled, Pooling, PoolingRule};

/// The share of a scale's crops that the paper pools.
const PAPER_SHARE: f64 = 0.3;

#[derive(clap::Args)]
#[command(next_help_heading = "Crops")]
pub(crate) struct CropArguments {
    /// Crops of an image: single (as the model's preprocessing says), or so many by the paper's
    /// geometry, with the aspect ratio kept
    #[arg(long, default_value = "single")]
    crops: CropsName,
    /// Shorter sides of the resized images, in pixels, as 378,426,473,520 [default: 256,272,…368 for
    /// an input of 224 (one for 10 and 12, four for 144), in proportion for others]
    #[arg(long, value_name = "PIXELS,…", value_delimiter = ',')]
    scales: Option<Vec<usize>>,
    /// How the crops' scores become one [default: top-share for 288, else mean]
    #[arg(long)]
    pooling: Option<PoolingName>,
    /// The best share of a scale's scores that top-share takes the mean of, per class
    #[arg(long, default_value_t = PAPER_SHARE)]
    share: f64,
    /// What is pooled: scores before or after the softmax
    #[arg(long, default_value = "logits")]
    scores: ScoresName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CropsName {
    Single,
    #[value(name = "10")]
    Ten,
    #[value(name = "12")]
    Twelve,
    #[value(name = "144")]
    Of144,
    #[value(name = "288")]
    Of288,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum PoolingName {
    Mean,
    TopShare,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ScoresName {
    Logits,
    Probabilities,
}

impl CropArguments {
    /// The crops and the rule that pools them; none for a single crop.
    pub(crate) fn read(
        &self,
        preprocessing: &Preprocessing,
        batch: u16,
    ) -> Result<Option<(CropView, PoolingRule)>> {
        let protocol = match self.crops {
            CropsName::Single => {
                ensure!(
                    self.scales.is_none() && self.pooling.is_none(),
                    "--scales and --pooling are for several crops: add --crops 10, 12, 144 or 288"
                );
                return Ok(None);
            }
            CropsName::Ten => Protocol::Crops10,
            CropsName::Twelve => Protocol::Crops12,
            CropsName::Of144 => Protocol::Crops144,
            CropsName::Of288 => Protocol::Crops288,
        };
        let plan = CropPlan::new(protocol, preprocessing.input_size, self.scales.clone())?;
        let view = CropView {
            plan,
            preprocessing: preprocessing.clone(),
            batch: usize::from(batch),
        };
        Ok(Some((view, self.rule(protocol)?)))
    }

    fn rule(&self, protocol: Protocol) -> Result<PoolingRule> {
        ensure!(
            self.share > 0.0 && self.share <= 1.0,
            "expected --share above 0 and at most 1, got {}",
            self.share
        );
        let by_default = match protocol {
            Protocol::Crops288 => PoolingName::TopShare,
            Protocol::Crops10 | Protocol::Crops12 | Protocol::Crops144 => PoolingName::Mean,
        };
        Ok(PoolingRule {
            pooling: match self.pooling.unwrap_or(by_default) {
                PoolingName::Mean => Pooling::Mean,
                PoolingName::TopShare => Pooling::TopShare(self.share),
            },
            of: match self.scores {
                ScoresName::Logits => Pooled::Logits,
                ScoresName::Probabilities => Pooled::Probabilities,
            },
        })
    }
}
