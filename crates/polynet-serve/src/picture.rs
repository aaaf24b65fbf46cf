//! The picture in a body: the body itself, or the one file of a form.

use crate::failure::{Failure, Kind};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use image::RgbImage;
use polynet::data::{DataError, DataErrorKind, DecodeLimits, decode_within};

/// The bytes of the picture.
///
/// # Errors
/// If the type is none of a picture's, or the form has not one file.
pub(crate) async fn bytes(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Failure> {
    let kind = headers
        .get(CONTENT_TYPE)
        .map(|kind| kind.to_str().unwrap_or("?"));
    let name = kind.map(|kind| {
        kind.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    });
    match (name.as_deref(), kind) {
        (Some("multipart/form-data"), Some(kind)) => in_form(kind, body).await,
        // The last is what curl's --data-binary says.
        (
            None
            | Some(
                "image/jpeg"
                | "image/jpg"
                | "image/png"
                | "application/octet-stream"
                | "application/x-www-form-urlencoded",
            ),
            _,
        ) => Ok(body),
        (Some(other), _) => {
            let message = format!(
                "expected a picture as image/jpeg, image/png, application/octet-stream or in \
                 multipart/form-data, got {}",
                polynet::data::printable(other)
            );
            Err(Failure::new(Kind::UnsupportedType, message))
        }
    }
}

async fn in_form(kind: &str, body: Bytes) -> Result<Bytes, Failure> {
    let wrong = |came: &str| {
        Failure::bad_request(format!(
            "expected a form with one file, `image`, got {came}; for example curl -F image=@photo.jpg"
        ))
    };
    let bad = |error: multer::Error| wrong(&error.to_string());
    let boundary = multer::parse_boundary(kind).map_err(bad)?;
    let mut form = multer::Multipart::new(BodyDataStream::new(Full::new(body)), boundary);
    let mut picture = None;
    while let Some(field) = form.next_field().await.map_err(bad)? {
        if field.name() != Some("image") || picture.is_some() {
            return Err(wrong("another field"));
        }
        picture = Some(field.bytes().await.map_err(bad)?);
    }
    picture.ok_or_else(|| wrong("none"))
}

/// The picture.
///
/// # Errors
/// If the bytes are no picture, or one that takes too much memory.
pub(crate) fn decoded(bytes: &[u8], memory: u64) -> Result<RgbImage, Failure> {
    decode_within(bytes, DecodeLimits { memory }).map_err(|error| refused(&error))
}

fn refused(error: &DataError) -> Failure {
    match error.kind() {
        DataErrorKind::TooLarge => {
            // What the library says to do about it is for its own limit.
            let found = error.message().split(';').next().unwrap_or_default();
            let message =
                format!("{found}; shrink it, or start the server with a larger --picture");
            Failure::new(Kind::TooLarge, message)
        }
        _ => Failure::new(Kind::BadPicture, error.to_string()),
    }
}
