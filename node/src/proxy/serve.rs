//! Connections of browsers, and a job for each page they ask for.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    header::{HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use msm_protocol::limits::JOB_INPUT_BYTES;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
};
use url::Url;

use super::{
    answer::Message,
    asked::{self, Asked},
    pages::{self, OwnPage},
};
use crate::{
    command::{Command, CommandError, Door, ErrorCode, Invoke},
    http::{self, HEADER_TIME, Whole},
};

/// Where it listens unless told otherwise: this device only.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7481);
/// Jobs at a time; more wait. As many as a browser asks of one host at a time.
const PAGES: usize = 6;
/// Requests that wait for their job. A browser asks again for what it was refused. *Judgement.*
const WAITING: usize = 64;
/// A page that is not here by then never comes: the fetch itself has 20 s, the queue before it as much.
const PAGE_TIME: Duration = Duration::from_secs(90);
/// A job that found all neighbours busy is tried again when one of ours has ended, or after this long. *Judgement.*
const AGAIN: Duration = Duration::from_millis(500);
/// Tries while no other job of ours is under way: then it is not us who keep them busy. *Judgement.*
const TRIES_ALONE: u32 = 4;
/// The service that fetches.
const SERVICE: &str = "internet-sharing";
/// A page from another site runs without our origin and without a network: everything it shows is in it.
const POLICY: &str = "sandbox allow-scripts allow-popups; default-src data: blob: 'unsafe-inline' 'unsafe-eval'";

/// The proxy of one node.
pub struct Proxy<D> {
    door: Arc<D>,
    local: SocketAddr,
    running: Semaphore,
    waiting: Semaphore,
    /// Jobs that are under way with some neighbour.
    jobs: AtomicUsize,
    ended: Notify,
}

/// Counts a job until it ends, however it ends.
struct Job<'a> {
    jobs: &'a AtomicUsize,
    ended: &'a Notify,
    /// It had a device, which has a slot free when it ends.
    had_device: bool,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.jobs.fetch_sub(1, Ordering::SeqCst);
        if self.had_device {
            self.ended.notify_one();
        }
    }
}

impl<D: Door + 'static> Proxy<D> {
    /// Serves browsers from `listener` until its future is dropped.
    pub async fn serve(listener: TcpListener, door: D) -> io::Result<()> {
        let local = listener.local_addr()?;
        let (running, waiting) = (Semaphore::new(PAGES), Semaphore::new(PAGES + WAITING));
        let (jobs, ended) = (AtomicUsize::new(0), Notify::new());
        let proxy = Arc::new(Self { door: Arc::new(door), local, running, waiting, jobs, ended });
        http::take(listener, |stream| proxy.clone().connection(stream)).await;
        Ok(())
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let answer = service_fn(|request| {
            let proxy = self.clone();
            async move { Ok::<_, Infallible>(proxy.answer(request).await) }
        });
        // A browser that hangs up ends its connection's future, and with it its job.
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a browser's connection ended");
        }
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Whole> {
        let gateway = self.local.to_string();
        match asked::judge(request.method(), request.uri(), request.headers(), self.local) {
            Asked::Help => own(pages::help(&gateway)),
            Asked::Tunnel(host) => own(pages::tunnel(&host, &gateway)),
            Asked::Refused(why) => own(pages::refused(why, &gateway)),
            Asked::Page(url) => self.page(&url).await,
            Asked::Raw(url) => self.raw(&url, &gateway).await,
        }
    }

    /// A page as one file.
    async fn page(&self, url: &Url) -> Response<Whole> {
        match self.job(url, "page").await {
            Ok(html) => {
                let headers = [("content-type", "text/html"), ("content-security-policy", POLICY)];
                response(200, headers.map(|(name, value)| (name.to_owned(), value.to_owned())), html)
            }
            Err(page) => own(page),
        }
    }

    /// An answer as it is.
    async fn raw(&self, url: &Url, gateway: &str) -> Response<Whole> {
        let bytes = match self.job(url, "raw").await {
            Ok(bytes) => bytes,
            Err(page) => return own(page),
        };
        let Some(message) = Message::read(&bytes) else { return own(pages::garbled()) };
        match message.elsewhere(url, gateway) {
            Some(there) => response(302, [("location".to_owned(), there)], Bytes::new()),
            None => response(message.status, message.headers, message.body),
        }
    }

    /// Has a neighbour fetch `url`, as soon as one has a slot free.
    async fn job(&self, url: &Url, mode: &str) -> Result<Bytes, OwnPage> {
        let busy = |_| pages::busy(PAGES + WAITING);
        let _waiting = self.waiting.try_acquire().map_err(busy)?;
        let closed = |_| pages::busy(PAGES);
        let _running = self.running.acquire().await.map_err(closed)?;
        let invoke = Invoke {
            service: SERVICE.to_owned(),
            params: json!({ "mode": mode }).as_object().cloned().unwrap_or_default(),
            input_type: Some("text/uri-list".to_owned()),
            deadline_ms: Some(PAGE_TIME.as_millis() as u64),
            ..Invoke::default()
        };
        let input = Bytes::copy_from_slice(url.as_str().as_bytes());
        let request = crate::command::Request { command: Command::Invoke(Box::new(invoke)), input: input.into() };
        let error = match tokio::time::timeout(PAGE_TIME, self.until_done(request)).await {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(error)) => error,
            Err(_) => {
                let message = format!("deadline: no neighbour had a slot free within {} s", PAGE_TIME.as_secs());
                CommandError::new(ErrorCode::Deadline, message)
            }
        };
        let CommandError { code, message, .. } = &error;
        tracing::info!(?code, %message, "no page");
        Err(pages::failed(&error))
    }

    /// Tries until the job ends otherwise than by want of a device: a browser asks for more at a time than neighbours
    /// have slots, and they keep no queue.
    async fn until_done(&self, request: crate::command::Request) -> Result<Bytes, CommandError> {
        let mut alone = 0;
        loop {
            self.jobs.fetch_add(1, Ordering::SeqCst);
            let mut job = Job { jobs: &self.jobs, ended: &self.ended, had_device: true };
            // Nobody looks at the job's progress: its events are dropped at once.
            let (events, _) = mpsc::channel(1);
            let error = match self.door.execute(request.clone(), events).await {
                Ok(response) => {
                    let page = response.output.whole(JOB_INPUT_BYTES).await;
                    return page.map_err(|error| CommandError::new(ErrorCode::Failed, error.to_string()));
                }
                Err(error) if error.code != ErrorCode::NoDevice => return Err(error),
                Err(error) => error,
            };
            job.had_device = false;
            drop(job);
            if self.jobs.load(Ordering::SeqCst) == 0 {
                alone += 1;
                if alone == TRIES_ALONE {
                    return Err(error);
                }
            }
            let _ = tokio::time::timeout(AGAIN, self.ended.notified()).await;
        }
    }
}

fn own(page: OwnPage) -> Response<Whole> {
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let headers = [("content-type", "text/html; charset=utf-8"), ("content-security-policy", policy)];
    response(page.status, headers.map(|(name, value)| (name.to_owned(), value.to_owned())), page.html.into())
}

/// Headers that cannot be written are left out: they came from far away.
fn response(status: u16, headers: impl IntoIterator<Item = (String, String)>, body: Bytes) -> Response<Whole> {
    let mut response = Response::new(Whole::from(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::BAD_GATEWAY);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    let said = response.headers_mut();
    // What one person's neighbour fetched is kept nowhere.
    said.insert("cache-control", HeaderValue::from_static("no-store"));
    said.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    said.insert("via", HeaderValue::from_static("1.1 msm"));
    response
}

#[cfg(test)]
mod tests;
