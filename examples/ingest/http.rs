//! As much HTTP/1.1 as the example needs, in the place of the framework that you use.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// Bytes that a body has at most: memory is promised to nobody before this was looked at.
const MAX_BODY: usize = 1 << 20;
/// Bytes of a line, and lines of a head.
const MAX_LINE: u64 = 8 << 10;
const MAX_HEADERS: usize = 100;

/// What is asked.
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

/// What is answered.
pub struct Response {
    pub status: u16,
    pub retry_after: Option<u32>,
    pub body: String,
}

impl Response {
    pub fn new(status: u16, body: impl ToString) -> Response {
        Response { status, retry_after: None, body: body.to_string() }
    }
}

/// The next request; `None` once the other end has closed.
pub async fn read(stream: &mut BufStream<TcpStream>) -> io::Result<Option<Request>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(bad("no request line")) };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut length = 0;
    for _ in 0..MAX_HEADERS {
        let header = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match header.split_once(':') {
            None if header.is_empty() => {
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await?;
                return Ok(Some(Request { method, path, body }));
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok().filter(|length| *length <= MAX_BODY).ok_or(bad("its length"))?;
            }
            Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => return Err(bad("its encoding")),
            _ => {}
        }
    }
    Err(bad("too many headers"))
}

/// Sends the answer.
pub async fn write(stream: &mut BufStream<TcpStream>, response: &Response) -> io::Result<()> {
    let Response { status, body, .. } = response;
    let retry = response.retry_after.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
    let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n{retry}\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await
}

async fn line(stream: &mut BufStream<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    if stream.take(MAX_LINE).read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(Some(line.to_owned())),
        None => Err(bad("a line without an end")),
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not understood: {what}"))
}
