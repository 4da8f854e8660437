//! Data files on disks of this machine, read by the thread that wants their bytes: a store hands them through two others.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

/// Whether an open file lies on a disk of this machine, or in its memory, which answer at once or not at all. A share on the network
/// or a bucket that is mounted is better asked by a store, in large pieces: whoever waits for it can be told to stop.
#[cfg(target_os = "linux")]
pub(super) fn is_on_a_disk_of_this_machine(file: &File) -> bool {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
        XFS_SUPER_MAGIC, fstatfs,
    };
    /// As `OpenZFS` has it: nix does not know it.
    const ZFS: FsType = FsType(0x2fc1_2fc1);
    let own = [
        BTRFS_SUPER_MAGIC,
        EXT4_SUPER_MAGIC,
        F2FS_SUPER_MAGIC,
        OVERLAYFS_SUPER_MAGIC,
        TMPFS_MAGIC,
        XFS_SUPER_MAGIC,
        ZFS,
    ];
    fstatfs(file).is_ok_and(|system| own.contains(&system.filesystem_type()))
}

/// As on Linux, where kinds of file systems have numbers. Here none is taken to be one of this machine.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_on_a_disk_of_this_machine(_: &File) -> bool {
    false
}

/// An open file. Another one that comes to stand under its name does not change it.
#[derive(Debug)]
pub(super) struct LocalFile(File);

impl LocalFile {
    pub(super) fn new(file: File) -> LocalFile {
        LocalFile(file)
    }

    /// Bytes of the file as it is now, where the disk says.
    pub(super) fn size(&self) -> Option<u64> {
        self.0.metadata().ok().map(|metadata| metadata.len())
    }

    /// The bytes of a range, fewer where the file ends before it does; the first ones of it are `known` already. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn read(&self, range: &Range<u64>, known: &[u8]) -> io::Result<Bytes> {
        let length = (range.end - range.start) as usize;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(known);
        let mut filled = bytes.len();
        bytes.resize(length, 0);
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, range.start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(Bytes::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_range_is_read_behind_what_is_known_of_it_and_ends_where_the_file_does() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = LocalFile::new(file);
        let read =
            |range: Range<u64>, known: &[u8]| String::from_utf8(file.read(&range, known).unwrap().into()).unwrap();
        assert_eq!(read(2..6, b""), "2345");
        // Not read again: these bytes are no longer those of the file.
        assert_eq!(read(2..6, b"xy"), "xy45");
        assert_eq!(read(2..4, b"xy"), "xy");
        assert_eq!(read(8..12, b""), "89");
        assert_eq!(read(8..12, b"89"), "89");
        assert_eq!(read(10..12, b""), "");
        assert_eq!(file.size(), Some(10));
    }
}
