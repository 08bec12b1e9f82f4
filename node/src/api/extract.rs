//! What requests carry, with refusals in the API's own form.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The JSON body of a request.
pub(super) struct Sent<T>(pub(super) T);

/// The query of a request.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            // What reads as JSON and is not what we want names the field.
            Err(JsonRejection::JsonDataError(error)) => Err(ApiError::new(error.status(), "invalid", deepest(&error))),
            Err(error) => Err(ApiError::new(error.status(), "malformed", error.body_text())),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => {
                let error: QueryRejection = error;
                Err(ApiError::malformed(format!("the query cannot be read: {}", deepest(&error))))
            }
        }
    }
}

/// What the innermost error says: the outer ones only repeat it.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
