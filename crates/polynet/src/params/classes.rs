//! Class names for weight files, which carry none.

use crate::data::ClassNames;

/// The 1,000 classes of ILSVRC-2012 in the order of public weights: synset and name.
const IMAGENET: &str = include_str!("imagenet_classes.txt");

/// Names for `count` classes: ImageNet's where there are 1,000, numbers otherwise.
///
/// # Panics
/// If there is not one.
///
/// ```
/// let names = polynet::default_class_names(1000);
/// assert_eq!(names[0], "n01440764 tench");
/// ```
pub fn default_class_names(count: usize) -> ClassNames {
    let mut names: Vec<String> = IMAGENET.lines().map(str::to_owned).collect();
    if names.len() != count {
        names = (0..count).map(|index| format!("class {index}")).collect();
    }
    ClassNames::new(names).expect("every network has a class, and every name is another")
}
