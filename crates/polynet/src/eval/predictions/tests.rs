use super::*;
use crate::data::sample_images::{picture_set, write_files};
use std::fs;

/// A table in each format that this build writes.
const TABLES: &[&str] = &[
    "a.csv",
    "a.jsonl",
    #[cfg(feature = "parquet")]
    "a.parquet",
];

const PICTURES: usize = 7;
const BATCH: usize = 3;

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        write_files(root.path(), &picture_set("set/", &[("cat", PICTURES)]));
        Self { root }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn request(&self, top: usize) -> PredictionRequest {
        let pictures = Dataset::unlabelled(&[self.at("set")]).unwrap();
        PredictionRequest::new(
            "a digest".to_owned(),
            "cpu",
            &pictures,
            [top, BATCH],
            Some(2),
        )
    }

    fn begin(&self, table: &str) -> Result<PredictionFile, PredictionFileError> {
        let embeddings = self.at(&format!("{table}.npy"));
        PredictionFile::begin(&self.at(table), Some(&embeddings), self.request(2))
    }
}

/// The picture with the number 4 is broken, and one name and one class need quotes.
fn row(number: usize) -> PredictionRow {
    let ranked = |class: &str, probability| Ranked {
        class: class.to_owned(),
        probability,
    };
    let is_broken = number == 4;
    PredictionRow {
        image: format!("set/{number}, \"a\".png"),
        classes: match is_broken {
            true => Vec::new(),
            false => vec![ranked("cat, or\ndog", 0.75), ranked("bird", 0.25)],
        },
        error: is_broken.then(|| "broken".to_owned()),
    }
}

fn write(file: &mut PredictionFile, batch: usize) {
    let rows: Vec<_> = (batch * BATCH..PICTURES.min((batch + 1) * BATCH))
        .map(row)
        .collect();
    let whole = rows.iter().filter(|row| row.error.is_none());
    let embeddings: Vec<f32> = whole.flat_map(|_| [batch as f32, 0.5]).collect();
    file.write(&rows, &embeddings).unwrap();
}

/// Everything in one go.
fn undisturbed(place: &Place, table: &str) -> [Vec<u8>; 2] {
    let mut file = place.begin(table).unwrap();
    (0..3).for_each(|batch| write(&mut file, batch));
    assert_eq!(file.done(), [PICTURES, 1]);
    file.finish().unwrap();
    [table.to_owned(), format!("{table}.npy")].map(|name| fs::read(place.at(&name)).unwrap())
}

/// Bytes of a table's part with all rows.
fn part_length(table: &str) -> u64 {
    let place = Place::new();
    let mut file = place.begin(table).unwrap();
    (0..3).for_each(|batch| write(&mut file, batch));
    fs::metadata(place.at(&format!("{table}.part")))
        .unwrap()
        .len()
}

#[test]
fn a_file_that_was_cut_anywhere_goes_on_to_the_same_bytes() {
    for table in TABLES {
        let expected = undisturbed(&Place::new(), table);
        for cut in (0..part_length(table)).step_by(61) {
            for cut_embeddings in [0, 40, 130, 145, expected[1].len()] {
                let place = Place::new();
                let mut file = place.begin(table).unwrap();
                (0..3).for_each(|batch| write(&mut file, batch));
                drop(file);
                for (name, length) in [
                    ((*table).to_owned(), cut as usize),
                    (format!("{table}.npy"), cut_embeddings),
                ] {
                    let part = fs::File::options()
                        .write(true)
                        .open(place.at(&format!("{name}.part")));
                    part.unwrap().set_len(length as u64).unwrap();
                }
                let mut file = place.begin(table).unwrap();
                let [done, _] = file.done();
                assert!(done == PICTURES || done % BATCH == 0, "{done}");
                (done.div_ceil(BATCH)..3).for_each(|batch| write(&mut file, batch));
                assert_eq!(file.done(), [PICTURES, 1], "{table} {cut} {cut_embeddings}");
                file.finish().unwrap();
                let names = [(*table).to_owned(), format!("{table}.npy")];
                let found = names.map(|name| fs::read(place.at(&name)).unwrap());
                assert!(found == expected, "{table} {cut} {cut_embeddings}");
                let left = fs::read_dir(place.root.path()).unwrap().count();
                assert_eq!(left, 3, "nothing but the results stays");
            }
        }
    }
}

#[test]
fn a_file_that_took_its_place_alone_goes_on_with_the_other() {
    let expected = undisturbed(&Place::new(), "a.csv");
    let place = Place::new();
    let mut file = place.begin("a.csv").unwrap();
    (0..3).for_each(|batch| write(&mut file, batch));
    drop(file);
    // Killed between the two.
    fs::rename(place.at("a.csv.npy.part"), place.at("a.csv.npy")).unwrap();
    let file = place.begin("a.csv").unwrap();
    assert_eq!(file.done(), [PICTURES, 1]);
    file.finish().unwrap();
    let found = ["a.csv", "a.csv.npy"].map(|name| fs::read(place.at(name)).unwrap());
    assert!(found == expected);
}

#[test]
fn rows_are_those_of_csv_json_and_numpy() {
    let place = Place::new();
    let [csv, npy] = undisturbed(&place, "a.csv");
    let csv = String::from_utf8(csv).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + PICTURES);
    assert_eq!(
        lines[0],
        "image,class_1,probability_1,class_2,probability_2,error"
    );
    assert_eq!(
        lines[1],
        "\"set/0, \"\"a\"\".png\",\"cat, or dog\",0.75,bird,0.25,"
    );
    assert_eq!(lines[5], "\"set/4, \"\"a\"\".png\",,,,,broken");
    assert_eq!(&npy[..8], b"\x93NUMPY\x01\x00");
    assert_eq!(npy.len(), 128 + PICTURES * 2 * 4);
    let number = |index: usize| f32::from_le_bytes(*npy[128 + 4 * index..].first_chunk().unwrap());
    assert!(number(8).is_nan() && number(9).is_nan());
    assert_eq!(
        [number(0), number(10), number(12), number(13)],
        [0.0, 1.0, 2.0, 0.5]
    );
    let [json, _] = undisturbed(&place, "a.jsonl");
    let rows: Vec<serde_json::Value> = json
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(rows.len(), PICTURES);
    assert_eq!(rows[0]["classes"][1]["class"], "bird");
    assert_eq!(rows[4]["error"], "broken");
}

#[test]
fn another_request_a_finished_file_and_a_second_process_are_refused() {
    let place = Place::new();
    let told = |found: Result<PredictionFile, PredictionFileError>| found.unwrap_err().to_string();
    assert!(told(place.begin("a.txt")).contains(".jsonl"));
    if cfg!(not(feature = "parquet")) {
        assert!(told(place.begin("a.parquet")).contains("--features parquet"));
    }
    let mut first = place.begin("a.csv").unwrap();
    assert!(told(place.begin("a.csv")).contains("another process"));
    write(&mut first, 0);
    drop(first);
    let embeddings = place.at("a.csv.npy");
    let begin = |request| PredictionFile::begin(&place.at("a.csv"), Some(&embeddings), request);
    assert!(told(begin(place.request(1))).contains("--top"));
    let elsewhere = place.at("elsewhere.npy");
    let elsewhere = PredictionFile::begin(&place.at("a.csv"), Some(&elsewhere), place.request(2));
    assert!(told(elsewhere).contains("--embeddings"));
    let of_another_model = PredictionRequest {
        model: "another digest".to_owned(),
        ..place.request(2)
    };
    assert!(told(begin(of_another_model)).contains("the model"));
    fs::remove_file(place.at("set/cat/003.png")).unwrap();
    assert!(told(place.begin("a.csv")).contains("6"));
    fs::remove_file(place.at("a.csv.part.json")).unwrap();
    assert!(told(place.begin("a.csv")).contains("not known"));
    assert!(fs::metadata(place.at("a.csv.part")).unwrap().len() > 0);
    fs::write(place.at("b.csv"), "").unwrap();
    assert!(told(place.begin("b.csv")).contains("already"));
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use super::*;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::{Field, Row};

    /// The columns' names and the rows, by the reader of the crate.
    fn read(path: &Path) -> (Vec<String>, Vec<Row>) {
        let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr();
        let names = schema.columns().iter().map(|column| column.name().into());
        let names = names.collect();
        (names, reader.into_iter().map(Result::unwrap).collect())
    }

    fn fields(row: &Row) -> Vec<Field> {
        row.get_column_iter()
            .map(|(_, field)| field.clone())
            .collect()
    }

    #[test]
    fn a_parquet_file_has_the_columns_and_rows_of_the_csv() {
        let place = Place::new();
        undisturbed(&place, "a.parquet");
        let (names, rows) = read(&place.at("a.parquet"));
        let names = names.join(",");
        assert_eq!(
            names,
            "image,class_1,probability_1,class_2,probability_2,error"
        );
        assert_eq!(rows.len(), PICTURES);
        for (number, found) in rows.iter().enumerate() {
            let row = row(number);
            let mut expected = vec![Field::Str(row.image)];
            for place in 0..2 {
                let ranked = row.classes.get(place);
                let class = ranked.map(|ranked| Field::Str(ranked.class.clone()));
                let probability = ranked.map(|ranked| Field::Double(ranked.probability));
                expected.extend([class, probability].map(|field| field.unwrap_or(Field::Null)));
            }
            expected.push(row.error.map_or(Field::Null, Field::Str));
            assert_eq!(fields(found), expected, "row {number}");
        }
    }

    #[test]
    fn rows_go_by_groups_and_a_probability_that_is_no_number_stays_none() {
        let place = Place::new();
        let mut lines = String::new();
        for number in 0..PICTURES {
            let mut row = row(number);
            if let (3, Some(class)) = (number, row.classes.first_mut()) {
                class.probability = f64::NAN;
            }
            lines += &Format::Parquet.line(&row, 2);
        }
        fs::write(place.at("lines"), lines).unwrap();
        let open = |name| crate::files::OpenFile::edit(&place.at(name)).unwrap();
        parquet::write(&mut open("lines"), open("groups.parquet"), 2, 3).unwrap();
        let path = place.at("groups.parquet");
        let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
        let groups = reader.metadata().row_groups().iter();
        assert_eq!(groups.map(|group| group.num_rows()).sum::<i64>(), 7);
        assert_eq!(reader.num_row_groups(), 3);
        let (_, rows) = read(&path);
        assert_eq!(rows.len(), PICTURES);
        assert!(matches!(fields(&rows[3])[2], Field::Double(number) if number.is_nan()));
        fs::write(place.at("lines"), "no row\n").unwrap();
        let refused = parquet::of_lines(&mut open("lines"), open("broken.parquet"), 2);
        assert!(refused.unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn one_that_was_made_before_its_part_was_removed_is_made_again() {
        let expected = undisturbed(&Place::new(), "a.parquet");
        let place = Place::new();
        let mut file = place.begin("a.parquet").unwrap();
        (0..3).for_each(|batch| write(&mut file, batch));
        drop(file);
        // Killed when everything had taken its place, and in the middle of another try.
        fs::rename(place.at("a.parquet.npy.part"), place.at("a.parquet.npy")).unwrap();
        fs::write(place.at("a.parquet"), &expected[0]).unwrap();
        fs::write(place.at("a.parquet.part.made"), "PAR1 and so on").unwrap();
        let file = place.begin("a.parquet").unwrap();
        assert_eq!(file.done(), [PICTURES, 1]);
        file.finish().unwrap();
        let found = ["a.parquet", "a.parquet.npy"].map(|name| fs::read(place.at(name)).unwrap());
        assert!(found == expected);
        assert_eq!(fs::read_dir(place.root.path()).unwrap().count(), 3);
        // Without a part it is a file like any other.
        let refused = place.begin("a.parquet").unwrap_err().to_string();
        assert!(refused.contains("already"), "{refused}");
    }
}
