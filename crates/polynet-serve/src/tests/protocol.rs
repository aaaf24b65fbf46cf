//! The Open Inference Protocol and its extensions.

use super::*;

#[test]
fn the_server_and_its_models_describe_themselves() {
    let server = Running::start(Options::default());
    assert_eq!(
        server.get("/v2/health/live").ok().json(),
        json!({ "live": true })
    );
    assert_eq!(
        server.get("/v2/health/ready").ok().json(),
        json!({ "ready": true })
    );
    let extensions = &server.get("/v2").ok().json()["extensions"];
    assert_eq!(
        *extensions,
        json!(["binary_tensor_data", "model_repository"])
    );
    let model = server.get("/v2/models/tiny").ok().json();
    assert_eq!(model["versions"], json!(["1"]));
    assert_eq!(model["inputs"][0]["shape"], json!([-1, 3, SIZE, SIZE]));
    assert_eq!(model["outputs"][1]["shape"], json!([-1, CLASSES]));
    assert_eq!(model["parameters"]["classes"], json!(["cat", "dog", "owl"]));
    let ready = server.get("/v2/models/tiny/versions/1/ready").ok().json();
    assert_eq!(ready, json!({ "name": "tiny", "ready": true }));
    let message = server.get("/v2/models/tony").refusal(404, "not_found");
    assert!(message.contains("`tiny`"), "{message}");
    for version in ["2", "01x", "99999999999999999999999"] {
        let path = format!("/v2/models/tiny/versions/{version}/ready");
        let message = server.get(&path).refusal(404, "not_found");
        assert!(message.contains("it has 1"), "{message}");
    }
}

/// An inference request with its tensor as bytes.
fn binary(server: &Running, header: &Value, tensor: &[u8]) -> Answer {
    let json = header.to_string();
    let mut request = post(INFER, [json.as_bytes(), tensor].concat());
    let length = json.len().into();
    request
        .headers_mut()
        .insert("inference-header-content-length", length);
    server.send(request)
}

#[test]
fn json_and_bytes_give_the_librarys_logits() {
    let server = Running::start(Options::default());
    let inputs: Vec<f32> = (0..2 * 3 * SIZE * SIZE).map(|i| (i as f32).cos()).collect();
    let mut model = polynet::Model::open(server.folder.path().join("tiny")).unwrap();
    let wanted = model.predictor().logits(&inputs);
    let probabilities: Vec<f32> = wanted
        .chunks(CLASSES)
        .flat_map(polynet::probabilities)
        .map(|probability| probability as f32)
        .collect();

    let shape = [2, 3, SIZE, SIZE];
    let mut header = json!({ "id": "7", "inputs": [
        { "name": "input", "datatype": "FP32", "shape": shape, "data": inputs },
    ] });
    let answer = server.post(INFER, header.to_string()).ok().json();
    assert_eq!(
        (&answer["id"], &answer["model_name"]),
        (&json!("7"), &json!("tiny"))
    );
    for (output, wanted) in [(0, &wanted), (1, &probabilities)] {
        let found: Vec<f32> =
            serde_json::from_value(answer["outputs"][output]["data"].clone()).unwrap();
        assert_eq!(&found, wanted);
    }

    let bytes: Vec<u8> = inputs
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    header["inputs"][0]["data"].take();
    header["inputs"][0]["parameters"] = json!({ "binary_data_size": bytes.len() });
    header["parameters"] = json!({ "binary_data_output": true });
    header["outputs"] = json!([
        { "name": "probabilities", "parameters": { "binary_data": false } },
        { "name": "logits" },
    ]);
    let answer = binary(&server, &header, &bytes).ok();
    let length: usize = answer.headers["inference-header-content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let (json, tensor) = answer.body.split_at(length);
    let wanted: Vec<u8> = wanted
        .iter()
        .flat_map(|logit| logit.to_le_bytes())
        .collect();
    assert_eq!(tensor, wanted);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(
        json["outputs"][1]["parameters"]["binary_data_size"],
        wanted.len()
    );
    assert!(json["outputs"][0]["data"].is_array());
}

#[test]
fn pictures_in_bytes_are_prepared_as_photographs_are() {
    let server = Running::start(Options::default());
    let picture = image::RgbImage::from_fn(24, 20, |x, y| image::Rgb([x as u8, y as u8, 99]));
    let mut model = polynet::Model::open(server.folder.path().join("tiny")).unwrap();
    let wanted = model.predict(std::slice::from_ref(&picture)).logits;
    let header = json!({ "inputs": [{ "name": "input", "datatype": "UINT8", "shape": [1, 20, 24, 3],
        "parameters": { "binary_data_size": picture.as_raw().len() } }] });
    let bits: Vec<u32> = wanted.iter().map(|logit| logit.to_bits()).collect();
    assert_eq!(logits(binary(&server, &header, picture.as_raw())), bits);
    let flat: Vec<u8> = picture.as_raw().clone();
    let header = json!({ "inputs": [{ "name": "input", "datatype": "UINT8", "shape": [1, 20, 24, 3],
        "data": flat }] });
    assert_eq!(logits(server.post(INFER, header.to_string())), bits);
}

#[test]
fn a_request_that_does_not_fit_is_refused_with_what_would() {
    let server = Running::start(Options::default());
    let input = |change: &[(&str, Value)]| {
        let mut input = json!({ "name": "input", "datatype": "UINT8", "shape": [1, 1, 1, 3],
            "data": [1, 2, 3] });
        for (key, value) in change {
            input[*key] = value.clone();
        }
        json!({ "inputs": [input] })
    };
    server.post(INFER, input(&[]).to_string()).ok();
    let with = |key: &str, value: Value| {
        let mut request = input(&[]);
        request[key] = value;
        request
    };
    for (request, expected) in [
        (json!([]), "begin with `{`"),
        (json!({}), "missing field `inputs`"),
        (json!({ "inputs": [] }), "one input"),
        (input(&[("name", json!("x"))]), "one input, `input`"),
        (input(&[("datatype", json!("FP64"))]), "FP32 [n, 3, 16, 16]"),
        (input(&[("datatype", json!("FP32"))]), "FP32 [n, 3, 16, 16]"),
        (
            input(&[("shape", json!([0, 1, 1, 3]))]),
            "with n at least 1",
        ),
        (input(&[("shape", json!([1, 1, 2, 3]))]), "got 3 of them"),
        (
            input(&[("shape", json!([u64::MAX, u64::MAX, 2, 3]))]),
            "got 3 of them",
        ),
        (input(&[("shape", json!([-1, 1, 1, 3]))]), "invalid value"),
        (
            input(&[("data", json!([1, 2, 300]))]),
            "whole ones from 0 to 255",
        ),
        (
            input(&[("data", json!([1, 2, "3"]))]),
            "numbers, or lists of them",
        ),
        (input(&[("data", Value::Null)]), "neither `data` nor"),
        (
            input(&[("parameters", json!({ "binary_data_size": 3 }))]),
            "send one of them",
        ),
        (
            input(&[("parameters", json!({ "shared_memory_region": "x" }))]),
            "not offered",
        ),
        (
            with("outputs", json!([{ "name": "x" }])),
            "`logits` and `probabilities`",
        ),
        (
            with(
                "outputs",
                json!([{ "name": "logits" }, { "name": "logits" }]),
            ),
            "each output once",
        ),
        (
            with(
                "outputs",
                json!([{ "name": "logits", "parameters": { "binary_data": 1 } }]),
            ),
            "true or false",
        ),
        (
            with("parameters", json!({ "timeout": "soon" })),
            "microseconds",
        ),
        (
            with("parameters", json!({ "sequence_id": 1 })),
            "not offered",
        ),
    ] {
        let message = server
            .post(INFER, request.to_string())
            .refusal(400, "bad_request");
        assert!(message.contains(expected), "{request}: {message}");
    }
}

#[test]
fn bytes_that_do_not_fit_are_refused() {
    let server = Running::start(Options::default());
    let header = |size: usize| {
        json!({ "inputs": [{ "name": "input", "datatype": "UINT8",
        "shape": [1, 1, 1, 3], "parameters": { "binary_data_size": size } }] })
    };
    binary(&server, &header(3), &[1, 2, 3]).ok();
    for (size, bytes) in [(3, 2), (3, 4), (4, 4), (0, 0)] {
        let message = binary(&server, &header(size), &vec![0; bytes]).refusal(400, "bad_request");
        assert!(message.contains("after the JSON"), "{message}");
    }
    for length in ["-1", "x", "100000"] {
        let mut request = post(INFER, header(3).to_string());
        let value = length.parse().unwrap();
        request
            .headers_mut()
            .insert("inference-header-content-length", value);
        let message = server.send(request).refusal(400, "bad_request");
        assert!(
            message.contains("Inference-Header-Content-Length"),
            "{message}"
        );
    }
    let not_a_number = [f32::NAN; 3 * SIZE * SIZE].map(f32::to_le_bytes).concat();
    let header = json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": [1, 3, SIZE, SIZE],
        "parameters": { "binary_data_size": not_a_number.len() } }] });
    let message = binary(&server, &header, &not_a_number).refusal(400, "bad_request");
    assert!(message.contains("finite"), "{message}");
}
