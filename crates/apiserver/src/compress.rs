//! Large answers are sent compressed to clients that take it: above upstream's threshold, at upstream's level.

use std::io::Write as _;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Response};

/// Answers up to here are sent as they are.
const THRESHOLD: u64 = 128 * 1024;
/// How much is compressed in one go; other requests have their turn in between.
const PIECE: usize = 64 * 1024;

/// Does the client take gzip?
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let refused =
            |p: &str| p.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !parts.any(refused)
    })
}

/// The same answer, compressed if it is large.
pub(crate) async fn gzip(response: Response<Body>) -> Response<Body> {
    if response.body().size_hint().exact().is_some_and(|size| size <= THRESHOLD) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let mut rest = body.into_data_stream();
    let (mut begun, mut size) = (Vec::new(), 0);
    while size <= THRESHOLD {
        match rest.next().await {
            Some(piece) => {
                size += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                begun.push(piece);
            }
            None => return Response::from_parts(parts, Body::from_stream(stream::iter(begun))),
        }
    }
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let begun: BodyDataStream = Body::from_stream(stream::iter(begun)).into_data_stream();
    Response::from_parts(parts, Body::from_stream(compressed(begun.chain(rest))))
}

type Piece = Result<Bytes, axum::Error>;

fn compressed(
    source: impl futures::Stream<Item = Piece> + Send + Unpin + 'static,
) -> impl futures::Stream<Item = Piece> + Send + 'static {
    let encoder = GzEncoder::new(Vec::with_capacity(PIECE), Compression::fast());
    let state = (source, Bytes::new(), Some(encoder));
    stream::unfold(state, |(mut source, mut piece, mut encoder)| async move {
        loop {
            let writer = encoder.as_mut()?;
            if piece.is_empty() {
                match source.next().await {
                    Some(Ok(next)) => piece = next,
                    Some(Err(error)) => return Some((Err(error), (source, piece, None))),
                    None => {
                        let last = encoder.take()?.finish().expect("memory can be written to");
                        return Some((Ok(last.into()), (source, piece, None)));
                    }
                }
                continue;
            }
            let part = piece.split_to(piece.len().min(PIECE));
            writer.write_all(&part).expect("memory can be written to");
            if !writer.get_ref().is_empty() {
                let out = std::mem::take(writer.get_mut());
                return Some((Ok(out.into()), (source, piece, encoder)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn accepts(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
        is_accepted(&headers)
    }

    #[test]
    fn gzip_is_sent_to_who_names_it() {
        assert!(accepts("gzip") && accepts("deflate, GZIP;q=0.5"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !accepts("x-gzip") && !accepts("*"));
        assert!(!is_accepted(&HeaderMap::new()));
    }

    async fn through(body: Body) -> (bool, Vec<u8>) {
        let response = gzip(Response::new(body)).await;
        let packed = response.headers().get(CONTENT_ENCODING).is_some();
        assert_eq!(packed, response.headers().get(VARY).is_some());
        (packed, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    fn unpack(packed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
        plain
    }

    #[tokio::test]
    async fn only_what_is_large_is_packed_and_it_is_the_same_after() {
        let text: Vec<u8> = (0..400_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        for size in [0, 1, 128 * 1024, 128 * 1024 + 1, 2_000_000] {
            let want = &text[..size];
            let (packed, whole) = through(Body::from(want.to_vec())).await;
            assert_eq!(packed, size > 128 * 1024, "{size}");
            let chunks: Vec<_> =
                want.chunks(50_000).map(|c| Ok::<_, Infallible>(Bytes::copy_from_slice(c))).collect();
            let (packed_too, pieces) = through(Body::from_stream(stream::iter(chunks))).await;
            assert_eq!(packed_too, packed);
            for got in [whole, pieces] {
                assert!((if packed { unpack(&got) } else { got }) == want, "{size}");
            }
        }
    }
}
