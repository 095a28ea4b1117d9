//! A blob's place in a registry's repository: whether it is there, whether the registry has it elsewhere,
//! and where an upload of it begins.

use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};

use crate::Error;
use crate::digest::Digest;
use crate::http::Request;
use crate::registry::Repository;

/// Where a blob is to be.
#[derive(Clone, Copy)]
pub(crate) struct BlobPlace<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) digest: &'a Digest,
}

/// What came of asking for a blob of another repository.
pub(crate) enum Mount {
    Done,
    /// The registry takes it as the beginning of an upload.
    Begun(Box<Response>),
    Refused,
}

impl BlobPlace<'_> {
    /// Has the blob be there without being sent, if that can be.
    pub(crate) async fn fill(self, sources: &[String]) -> Result<bool, Error> {
        if self.exists().await? {
            return Ok(true);
        }
        match self.mount(sources).await? {
            Mount::Done => return Ok(true),
            Mount::Begun(unused) => self.cancel(&unused).await,
            Mount::Refused => {}
        }
        Ok(false)
    }

    /// Has the blob taken from another repository, or leaves with an upload that is begun.
    pub(crate) async fn mount(self, sources: &[String]) -> Result<Mount, Error> {
        let mut begun: Option<Response> = None;
        for source in sources {
            // A source that is refused is as good as none.
            let Ok(response) = self.begin(Some(source)).await else {
                continue;
            };
            if let Some(unused) = begun.take() {
                self.cancel(&unused).await;
            }
            if response.status() == StatusCode::CREATED {
                return Ok(Mount::Done);
            }
            begun = Some(response);
        }
        Ok(begun.map_or(Mount::Refused, |response| Mount::Begun(Box::new(response))))
    }

    /// Takes an upload back that nothing is sent to. A registry ends it by itself some time, if not now.
    pub(crate) async fn cancel(self, begun: &Response) {
        let Ok(place) = self.location(begun).await else {
            return;
        };
        let request = Request {
            method: Method::DELETE,
            ..Request::get(place)
        };
        let what = self.what();
        let _ = self.repository.call(request, &what, false, &|_| true).await;
    }

    pub(crate) async fn exists(self) -> Result<bool, Error> {
        let path = format!("{}/blobs/{}", self.repository.path(), self.digest);
        let what = self.what();
        let request = Request {
            method: Method::HEAD,
            ..Request::get(self.repository.url(&path, &what).await?)
        };
        let known = |status| status == StatusCode::OK || status == StatusCode::NOT_FOUND;
        let response = self.repository.call(request, &what, true, &known).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Begins an upload, or has the blob mounted from another repository.
    pub(crate) async fn begin(self, source: Option<&str>) -> Result<Response, Error> {
        let what = self.what();
        let path = format!("{}/blobs/uploads/", self.repository.path());
        let mut url = self.repository.url(&path, &what).await?;
        if let Some(source) = source {
            url.query_pairs_mut()
                .append_pair("mount", &self.digest.to_string())
                .append_pair("from", source);
        }
        let request = Request {
            method: Method::POST,
            ..Request::get(url)
        };
        let begun = |status| status == StatusCode::ACCEPTED || status == StatusCode::CREATED;
        self.repository.call(request, &what, true, &begun).await
    }

    /// Where an upload goes on.
    pub(crate) async fn location(self, response: &Response) -> Result<Url, Error> {
        let location = response.headers().get(LOCATION);
        let url = location
            .and_then(|location| location.to_str().ok())
            .and_then(|location| response.url().join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                Error::Registry(format!(
                    "{}: the registry does not say where to send it",
                    self.what()
                ))
            })?;
        self.repository.place(url, &self.what()).await
    }

    pub(crate) fn what(self) -> String {
        format!("pushing blob {} to {}", self.digest, self.repository.name())
    }
}
