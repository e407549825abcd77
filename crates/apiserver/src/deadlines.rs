//! A stream that gives up on a silent client: the first byte has to come within a while, and a write that can make no
//! progress for a while fails, and with it the connection. So a stuck client costs a connection for a bounded time only.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// See the module.
pub(crate) struct Deadlines<S> {
    stream: S,
    /// Runs until the first byte has been read.
    first_byte: Option<Pin<Box<Sleep>>>,
    write_limit: Duration,
    /// Runs while a write is waiting.
    write: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Deadlines<S> {
    pub(crate) fn new(stream: S, first_byte: Duration, write_limit: Duration) -> Self {
        Self { stream, first_byte: Some(Box::pin(tokio::time::sleep(first_byte))), write_limit, write: None }
    }

    fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let result = write(Pin::new(&mut self.stream), context);
        if result.is_ready() {
            self.write = None;
            return result;
        }
        let limit = self.write_limit;
        let timer = self.write.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).map(|()| Err(timed_out("the client does not read")))
    }
}

fn timed_out(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if result.is_ready() {
            self.first_byte = None;
            return result;
        }
        match &mut self.first_byte {
            Some(timer) => timer.as_mut().poll(context).map(|()| Err(timed_out("the client does not write"))),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.guard(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard(context, |stream, context| stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.guard(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_reader_who_does_not_read_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut stream = Deadlines::new(ours, NEVER, SOON);
        stream.write_all(&[0; 16]).await.unwrap();
        let error = stream.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_writer_who_never_begins_is_given_up_and_one_who_began_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut stream = Deadlines::new(ours, SOON, NEVER);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (ours, mut late) = tokio::io::duplex(16);
        let mut stream = Deadlines::new(ours, NEVER, NEVER);
        late.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        assert!(stream.first_byte.is_none());
        theirs.shutdown().await.unwrap();
    }
}
