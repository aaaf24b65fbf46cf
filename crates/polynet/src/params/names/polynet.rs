//! Names of the public PyTorch port of the released PolyNet.
//!
//! The port (package `pretrainedmodels`, `models/polynet.py`) lays a k-way module out as
//! `blocks.N` and a poly-k module as layers with lists of batch norms:
//!
//! | here | port |
//! |---|---|
//! | `stem.4.branch1.0.conv` | `stem.conv2_long.0.conv` |
//! | `reduction_a.branch0.2.norm` | `reduction_a.path0.2.bn` |
//! | `stage_a.3.G.0.branch0.1.conv` | `stage_a.3.blocks.1.path0.1.conv` |
//! | `stage_a.3.G.1.norm` | `stage_a.3.blocks.1.conv2d.bn` |
//! | `stage_b.0.F.0.branch0.1.norm.2` | `stage_b.0.path0_1x7.bn_blocks.2` |
//! | `stage_b.0.F.1.conv.2` | `stage_b.0.conv2d_blocks.2.conv` |
//! | `head.linear` | `last_linear` |

use super::bn;
use crate::arch::{Architecture, Family, Graph, Sharing};
use crate::params::WeightError;
use std::collections::HashMap;

/// For every tensor of the architecture, in the order of [`Graph::tensors`], the port's name.
///
/// # Errors
/// If the architecture has modules that the port cannot express: it knows the released sharing,
/// k-way modules, and poly-k modules.
pub fn port_names(architecture: &Architecture, graph: &Graph) -> Result<Vec<String>, WeightError> {
    if architecture.family != Family::Imagenet {
        let family = architecture.family.name();
        let message = format!("family `{family}`, where the port has `imagenet`");
        return Err(WeightError::NoPort(message));
    }
    let layers = Layers {
        architecture,
        kernels: graph
            .convs
            .iter()
            .map(|conv| (conv.name.as_str(), [conv.shape[2], conv.shape[3]]))
            .collect(),
    };
    graph
        .tensors()
        .map(|tensor| {
            let (layer, field) = tensor.name.rsplit_once('.').unwrap_or((&tensor.name, ""));
            Ok(format!("{}.{field}", layers.port_name(layer)?))
        })
        .collect()
}

struct Layers<'a> {
    architecture: &'a Architecture,
    kernels: HashMap<&'a str, [usize; 2]>,
}

impl Layers<'_> {
    fn port_name(&self, layer: &str) -> Result<String, WeightError> {
        let parts: Vec<&str> = layer.split('.').collect();
        let unknown = || WeightError::NoPort(format!("layer `{layer}`"));
        match parts.as_slice() {
            ["head", "linear"] => Ok("last_linear".to_owned()),
            ["stem", rest @ .., kind] => {
                let place = match rest {
                    [index @ ("0" | "1" | "2")] => format!("conv1.{index}"),
                    ["3", "branch1"] => "conv1_branch".to_owned(),
                    ["4", "branch0", index] => format!("conv2_short.{index}"),
                    ["4", "branch1", index] => format!("conv2_long.{index}"),
                    ["5", "branch1"] => "conv2_branch".to_owned(),
                    _ => return Err(unknown()),
                };
                Ok(format!("stem.{place}.{}", bn(kind)))
            }
            [
                reduction @ ("reduction_a" | "reduction_b"),
                branch,
                rest @ ..,
                kind,
            ] => {
                let path = branch.replace("branch", "path");
                let inner: String = rest.iter().map(|index| format!(".{index}")).collect();
                Ok(format!("{reduction}.{path}{inner}.{}", bn(kind)))
            }
            [stage, module, letter, place @ ..] => {
                let base = format!("{stage}.{module}");
                self.module_layer(&base, letter, place, layer)
            }
            _ => Err(unknown()),
        }
    }

    /// A layer of block `letter` in the module called `base`.
    fn module_layer(
        &self,
        base: &str,
        letter: &str,
        place: &[&str],
        layer: &str,
    ) -> Result<String, WeightError> {
        match self.module_kind(base)? {
            ModuleKind::Ways(letters) => {
                let position = letters.iter().position(|known| known == letter);
                let position = position.unwrap_or_default();
                let (inner, kind) = match place {
                    ["0", branch, index, kind] => (
                        format!("{}.{index}", branch.replace("branch", "path")),
                        kind,
                    ),
                    ["0", branch, kind] => (branch.replace("branch", "path"), kind),
                    ["1", kind] => ("conv2d".to_owned(), kind),
                    _ => return Err(WeightError::NoPort(format!("layer `{layer}`"))),
                };
                Ok(format!("{base}.blocks.{position}.{inner}.{}", bn(kind)))
            }
            ModuleKind::Poly => match place {
                ["0", "branch0", index, "conv"] => {
                    let name = self.kernel_name(&format!("{base}.{letter}.0.branch0.{index}"));
                    Ok(format!("{base}.path0_{name}.conv"))
                }
                ["0", "branch0", index, "norm", order] => {
                    let name = self.kernel_name(&format!("{base}.{letter}.0.branch0.{index}"));
                    Ok(format!("{base}.path0_{name}.bn_blocks.{order}"))
                }
                ["0", "branch1", "conv"] => Ok(format!("{base}.path1.conv")),
                ["0", "branch1", "norm", order] => Ok(format!("{base}.path1.bn_blocks.{order}")),
                ["1", kind, order] => Ok(format!("{base}.conv2d_blocks.{order}.{}", bn(kind))),
                _ => Err(WeightError::NoPort(format!("layer `{layer}`"))),
            },
        }
    }

    /// `1x7` for a kernel of one row and seven columns.
    fn kernel_name(&self, layer: &str) -> String {
        let name = format!("{layer}.conv");
        let [height, width] = self.kernels.get(name.as_str()).copied().unwrap_or([0, 0]);
        format!("{height}x{width}")
    }

    fn module_kind(&self, base: &str) -> Result<ModuleKind, WeightError> {
        let architecture = self.architecture;
        let module = architecture.stages.iter().find_map(|stage| {
            let position = base.strip_prefix(&stage.name())?.strip_prefix('.')?;
            stage.modules.get(position.parse::<usize>().ok()?)
        });
        let module = module.ok_or_else(|| WeightError::NoPort(format!("module `{base}`")))?;
        let name = module.polynomial.name().unwrap_or_default();
        let letters = module.polynomial.blocks();
        if name.ends_with("-way") || name == "residual" {
            let letters = letters.iter().map(ToString::to_string).collect();
            Ok(ModuleKind::Ways(letters))
        } else if name.starts_with("poly-") && architecture.sharing == Sharing::Release {
            Ok(ModuleKind::Poly)
        } else {
            let message = format!(
                "module `{base}` is {}; the port has k-way modules, and poly-k with `sharing = \
                 release`",
                module.polynomial
            );
            Err(WeightError::NoPort(message))
        }
    }
}

enum ModuleKind {
    /// One block per letter, all on the same input.
    Ways(Vec<String>),
    /// One block, applied repeatedly.
    Poly,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_ports_names() {
        let architecture: Architecture = "very-deep-polynet".parse().unwrap();
        let graph = architecture.graph().unwrap();
        let names = port_names(&architecture, &graph).unwrap();
        let ours: Vec<String> = graph.tensors().map(|tensor| tensor.name).collect();
        let table = [
            (
                "stem.4.branch1.0.conv.weight",
                "stem.conv2_long.0.conv.weight",
            ),
            (
                "reduction_a.branch0.2.norm.bias",
                "reduction_a.path0.2.bn.bias",
            ),
            (
                "reduction_a.branch1.conv.weight",
                "reduction_a.path1.conv.weight",
            ),
            (
                "stage_a.3.G.0.branch0.1.conv.weight",
                "stage_a.3.blocks.1.path0.1.conv.weight",
            ),
            (
                "stage_a.3.G.0.branch2.conv.weight",
                "stage_a.3.blocks.1.path2.conv.weight",
            ),
            (
                "stage_a.3.G.1.norm.running_var",
                "stage_a.3.blocks.1.conv2d.bn.running_var",
            ),
            (
                "stage_b.0.F.0.branch0.1.norm.2.weight",
                "stage_b.0.path0_1x7.bn_blocks.2.weight",
            ),
            (
                "stage_c.0.F.0.branch0.2.conv.weight",
                "stage_c.0.path0_3x1.conv.weight",
            ),
            (
                "stage_b.0.F.1.conv.2.weight",
                "stage_b.0.conv2d_blocks.2.conv.weight",
            ),
            ("head.linear.bias", "last_linear.bias"),
        ];
        for (here, port) in table {
            let index = ours.iter().position(|name| name == here);
            let index = index.unwrap_or_else(|| panic!("no tensor {here}"));
            assert_eq!(names[index], port);
        }
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn modules_that_the_port_cannot_express_are_refused() {
        let architecture: Architecture = "ir-3-6-3; B: mpoly-3 x6".parse().unwrap();
        let error = port_names(&architecture, &architecture.graph().unwrap()).unwrap_err();
        assert!(error.to_string().contains("stage_b.0"), "{error}");
    }
}
