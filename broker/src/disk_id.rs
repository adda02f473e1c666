//! The id of what a broker's disk holds: the file `disk-id` in the data folder, a random UUID as text.
//!
//! It is drawn when the folder is new and never changes. A broker that registers with another one has lost its disk, and is
//! given no leadership on the strength of what it once had. The file is made under another name and renamed once it is
//! durable: it is whole or not there.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use uuid::Uuid;

const FILE: &str = "disk-id";

/// The id of the data folder; drawn now, if it has none. Blocks.
pub(crate) fn of_folder(data_dir: &Path) -> io::Result<Uuid> {
    let path = data_dir.join(FILE);
    let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => {
            let unreadable = |_| io::Error::new(ErrorKind::InvalidData, "it holds no UUID");
            text.trim().parse().map_err(unreadable).map_err(name)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => draw(data_dir, &path).map_err(name),
        Err(error) => Err(name(error)),
    }
}

fn draw(data_dir: &Path, path: &Path) -> io::Result<Uuid> {
    let id = Uuid::new_v4();
    write_line(data_dir, path, &id.to_string())?;
    Ok(id)
}

/// Makes or replaces a file of one line in the data folder, durably: it is whole or as it was. Blocks.
pub(crate) fn write_line(data_dir: &Path, path: &Path, line: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_id_and_a_new_one_has_another() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = of_folder(one.path()).unwrap();
        assert_eq!(of_folder(one.path()).unwrap(), id);
        assert_ne!(of_folder(other.path()).unwrap(), id);
        fs::write(one.path().join(FILE), "garbage").unwrap();
        assert_eq!(of_folder(one.path()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
