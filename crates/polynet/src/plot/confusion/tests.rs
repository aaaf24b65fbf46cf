use super::*;

fn matrix(classes: usize, images: u64) -> ConfusionMatrix {
    let mut matrix = ConfusionMatrix::new(classes);
    for truth in 0..classes {
        for image in 0..images as usize {
            // Most images are right, some are taken for a neighbour, some for any class.
            let predicted = match image % 20 {
                0..14 => truth,
                14..18 => (truth + 1) % classes,
                _ => (truth * 7 + image * 13) % classes,
            };
            matrix.add(truth, predicted);
        }
    }
    matrix
}

fn names(count: usize) -> Vec<String> {
    let words = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ];
    (0..count)
        .map(|index| match index / words.len() {
            0 => words[index].to_owned(),
            round => format!("{} {round}", words[index % words.len()]),
        })
        .collect()
}

/// The SVG, and a copy to look at where `POLYNET_PLOTS` names a folder.
fn drawn(name: &str, matrix: &ConfusionMatrix, classes: &[String]) -> String {
    let svg = confusion_matrix(matrix, classes, name).unwrap();
    if let Some(folder) = std::env::var_os("POLYNET_PLOTS") {
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.svg")),
            &svg,
        )
        .unwrap();
    }
    svg
}

#[test]
fn ten_classes_have_names_and_numbers() {
    let svg = drawn("confusion 10", &matrix(10, 1000), &names(10));
    for text in [
        "airplane",
        "truck",
        "true class",
        "predicted class",
        "10\u{202f}000 images",
        "100 %",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(svg.contains("\n70\n") || svg.contains(">70"), "{svg}");
}

#[test]
fn names_and_numbers_go_as_the_classes_grow() {
    for (classes, named, joined) in [
        (25, true, false),
        (60, true, false),
        (100, false, false),
        (1000, false, true),
    ] {
        let svg = drawn(
            &format!("confusion {classes}"),
            &matrix(classes, 50),
            &names(classes),
        );
        assert_eq!(svg.contains("airplane"), named, "{classes}");
        assert_eq!(svg.contains("joins 10 × 10"), joined, "{classes}");
        assert!(svg.len() < 2_000_000, "{classes}: {}", svg.len());
    }
}

#[test]
fn odd_matrices_are_pictures_too() {
    for (classes, names) in [
        (0, vec![]),
        (1, names(1)),
        (2, vec!["a class with a really very long name".to_owned()]),
        (3, vec!["<&>".to_owned(), "\u{0}".to_owned(), String::new()]),
    ] {
        let empty = ConfusionMatrix::new(classes);
        let svg = drawn(&format!("empty {classes}"), &empty, &names);
        assert!(svg.contains("no images"));
        assert!(!svg.contains("NaN"));
    }
    let mut one_row = ConfusionMatrix::new(3);
    one_row.add(1, 2);
    let svg = drawn("one row", &one_row, &names(3));
    assert!(svg.contains("1 image, top-1 0.00 %"));
}

#[test]
fn joined_classes_keep_every_image() {
    let matrix = matrix(257, 20);
    let grid = Grid::new(&matrix);
    assert_eq!((grid.joined, grid.side()), (3, 86));
    assert_eq!(grid.rows.iter().flatten().sum::<u64>(), 257 * 20);
}

#[test]
fn the_colour_darkens_with_the_share() {
    let lightness = |share| {
        let RGBColor(r, g, b) = color_of(share);
        0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
    };
    let shares: Vec<f64> = (0..=100)
        .map(|per_cent| f64::from(per_cent) / 100.0)
        .collect();
    assert!(
        shares
            .windows(2)
            .all(|pair| lightness(pair[0]) > lightness(pair[1]))
    );
    assert_eq!(color_of(0.0), PAPER);
}
