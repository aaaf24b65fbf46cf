use super::super::canvas::tests::assert_texts_are_apart;
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

fn drawn(name: &str, matrix: &ConfusionMatrix, classes: &[String]) -> String {
    let class = |name: &String| ClassReport {
        name: name.clone(),
        images: 0,
        correct: 0,
        top1: None,
        top5: None,
    };
    let report = EvalReport {
        images: 0,
        loss: None,
        top1: None,
        top5: None,
        classes: classes.iter().map(class).collect(),
        confusion: matrix.clone(),
    };
    let svg = confusion_matrix(&report, name);
    super::super::look(name, &svg);
    assert_texts_are_apart(&svg);
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
    assert!(svg.contains(">70<"), "{svg}");
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
        assert_eq!(svg.contains("10 × 10 classes"), joined, "{classes}");
        assert!(svg.len() < 300_000, "{classes}: {}", svg.len());
    }
}

#[test]
fn odd_matrices_are_pictures_too() {
    for (classes, names) in [
        (0, vec![]),
        (1, names(1)),
        (
            2,
            vec![
                "a class with a really very long name".to_owned(),
                "b".to_owned(),
            ],
        ),
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
fn the_shade_deepens_with_the_share() {
    let shades: Vec<u8> = (0..=100)
        .map(|per_cent| shade(f64::from(per_cent) / 100.0))
        .collect();
    assert!(shades.is_sorted());
    assert_eq!((shades[0], shades[100]), (0, SHADES));
    // What is below one per cent shows.
    assert!(shade(0.002) > 0);
}
