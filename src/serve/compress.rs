//! Compressing whole answers.

use std::io::{self, Write as _};

use flate2::write::GzEncoder;
use tokio::task::spawn_blocking;

use super::accept::Encoding;

/// Smaller answers are sent as they are: they fit a packet or two, and the client's work is saved too.
pub(super) const MIN_BYTES: usize = 1024;

/// Larger ones are compressed where they hold nobody up.
const MAX_INLINE_BYTES: usize = 16 << 10;

const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
/// 2 to the power of this many bytes.
const BROTLI_WINDOW: u32 = 20;

/// The bytes compressed; `None` if that failed, when they are to be sent as they are.
pub(super) async fn compress(bytes: &bytes::Bytes, encoding: Encoding) -> Option<Vec<u8>> {
    if bytes.len() <= MAX_INLINE_BYTES {
        return encode(bytes, encoding).ok();
    }
    let bytes = bytes.clone();
    spawn_blocking(move || encode(&bytes, encoding)).await.ok()?.ok()
}

fn encode(bytes: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
        Encoding::Gzip => {
            let out = Vec::with_capacity(bytes.len() / 3);
            let mut encoder = GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Encoding::Brotli => {
            let mut out = Vec::with_capacity(bytes.len() / 3);
            let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, BROTLI_QUALITY, BROTLI_WINDOW);
            encoder.write_all(bytes)?;
            encoder.flush()?;
            drop(encoder);
            Ok(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[tokio::test]
    async fn what_is_compressed_reads_back() {
        for size in [0, 10, 5_000, 300_000] {
            let bytes: bytes::Bytes = (0..size).map(|at: u64| (at * at / 100 % 50) as u8).collect::<Vec<_>>().into();
            for encoding in [Encoding::Zstd, Encoding::Gzip, Encoding::Brotli] {
                let small = compress(&bytes, encoding).await.unwrap();
                let mut back = Vec::new();
                match encoding {
                    Encoding::Zstd => back = zstd::decode_all(&small[..]).unwrap(),
                    Encoding::Gzip => _ = flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut back).unwrap(),
                    Encoding::Brotli => _ = brotli::Decompressor::new(&small[..], 4096).read_to_end(&mut back).unwrap(),
                }
                assert!(back == bytes, "{encoding:?}, {size}");
            }
        }
    }
}
