//! Errors as JSON: `{"error":{"code":"…","message":"…"}}` with the status that fits.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use shoal_protocol::id::JobId;
use shoal_store::blobs::{Altered, ComposeError, FolderError, ImportError, PinError, StoreFailed};
use shoal_store::state::StateError;

use crate::network::FetchError;
use crate::query::{LogsError, ResultError};
use crate::views::{ErrorBody, ErrorView};
use crate::{DiffError, ListError, LookupError, ReplayError, StopError, SubmitError};

/// Why a request was not answered.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn no_job(job: JobId) -> Self {
        Self::not_found(format!("this node has no job {job}; `shoal job list` shows those it has"))
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    }

    fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "unavailable", error.to_string())
    }

    /// The error as a value of a stream that has begun.
    pub(super) fn view(&self) -> ErrorView {
        ErrorView { error: ErrorBody { code: self.code.to_owned(), message: self.message.clone() } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::debug!(code = self.code, message = %self.message, "request failed");
        }
        (self.status, Json(self.view())).into_response()
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Invalid(_)
            | SubmitError::Source { .. }
            | SubmitError::Module(_)
            | SubmitError::Validator(_)
            | SubmitError::Image(..)
            | SubmitError::Engine(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message),
            SubmitError::Missing { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "input_missing", message),
            SubmitError::Busy(_) | SubmitError::Stopping => Self::busy(message),
            SubmitError::Store(_) | SubmitError::Randomness(_) => Self::internal(message),
        }
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        let message = error.to_string();
        match error {
            LookupError::Malformed(_) => Self::malformed(message),
            LookupError::NotFound(_) => Self::not_found(message),
            LookupError::Ambiguous(..) => Self::new(StatusCode::CONFLICT, "ambiguous", message),
            LookupError::State(_) => Self::internal(message),
        }
    }
}

impl From<StopError> for ApiError {
    fn from(error: StopError) -> Self {
        let message = error.to_string();
        match error {
            StopError::NotFound(_) => Self::not_found(message),
            StopError::Over(..) => Self::new(StatusCode::CONFLICT, "over", message),
            StopError::Stopping => Self::busy(message),
            StopError::State(_) => Self::internal(message),
        }
    }
}

impl From<LogsError> for ApiError {
    fn from(error: LogsError) -> Self {
        let message = error.to_string();
        match error {
            LogsError::NoExecution(_) | LogsError::NotFound(..) => Self::not_found(message),
            LogsError::Unavailable { .. } => Self::unavailable(message),
            LogsError::Store(_) | LogsError::Read(_) | LogsError::State(_) => Self::internal(message),
        }
    }
}

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        let message = error.to_string();
        match error {
            ReplayError::NotFound(_) => Self::not_found(message),
            ReplayError::Partition { .. } => Self::malformed(message),
            ReplayError::Busy => Self::busy(message),
            ReplayError::Input(_) => Self::new(StatusCode::CONFLICT, "input_missing", message),
            ReplayError::Failed(_) => Self::new(StatusCode::CONFLICT, "no_result", message),
            _ => Self::internal(message),
        }
    }
}

impl From<DiffError> for ApiError {
    fn from(error: DiffError) -> Self {
        let message = error.to_string();
        match error {
            DiffError::Here(error) => Self::from(error),
            DiffError::NoExecution { .. } => Self::not_found(message),
            DiffError::NoDifference(..) => Self::new(StatusCode::CONFLICT, "no_difference", message),
            DiffError::There { .. } => Self::unavailable(message),
            DiffError::Stopping => Self::busy(message),
        }
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        let message = error.to_string();
        match error {
            FetchError::Nowhere { .. } => Self::not_found(message),
            FetchError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            FetchError::Stalled { .. } | FetchError::Corrupt { .. } => Self::unavailable(message),
            _ => Self::internal(message),
        }
    }
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Folder(error) => error.into(),
            ListError::Fetch(error) => error.into(),
            ListError::Store(error) => error.into(),
        }
    }
}

impl From<FolderError> for ApiError {
    fn from(error: FolderError) -> Self {
        let message = error.to_string();
        match error {
            FolderError::Missing(_) => Self::not_found(message),
            FolderError::Malformed { .. } | FolderError::Name { .. } => Self::malformed(message),
            FolderError::Store(error) => error.into(),
        }
    }
}

impl From<ComposeError> for ApiError {
    fn from(error: ComposeError) -> Self {
        let message = error.to_string();
        match error {
            ComposeError::Missing(_) => Self::not_found(message),
            ComposeError::Import(ImportError::Store(error)) => error.into(),
            ComposeError::Import(_) => Self::malformed(message),
        }
    }
}

impl From<Altered> for ApiError {
    fn from(error: Altered) -> Self {
        match error {
            Altered::Store(error) => error.into(),
            error => Self::new(StatusCode::CONFLICT, "altered", error.to_string()),
        }
    }
}

impl From<PinError> for ApiError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Name(_) => Self::malformed(error.to_string()),
            PinError::Store(error) => error.into(),
        }
    }
}

impl From<StoreFailed> for ApiError {
    fn from(error: StoreFailed) -> Self {
        match error {
            StoreFailed::NoRoom(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", error.to_string()),
            StoreFailed::Broken(_) => Self::internal(error),
        }
    }
}

macro_rules! internal {
    ($($error:ty),*) => {
        $(impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::internal(error)
            }
        })*
    };
}

internal!(StateError, ResultError);
