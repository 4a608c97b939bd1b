//! Reading a manifest and what it asks of this machine.
//!
//! A manifest may come with a cloned folder, so it can only ask: its workspace has to lie in the
//! manifest's own folder, unless the user named another one on the command line.

use std::io::Read;
use std::path::{Path, PathBuf};

use aosk_abi::{Code, Manifest};
use aosk_kernel::{KERNEL_TOOLS, PROGRAMS, policies};
use aosk_tools::Registry;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, did_you_mean, nearest};

/// The largest manifest, in bytes. The longest prompts that people write by hand are some 50 KB.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a manifest, checks that the program, policy and tools that it names exist, and makes its
/// workspace absolute.
///
/// # Errors
/// [`Error`] with the file and line of what is wrong.
pub(crate) fn read(path: &Path, allowed: &[PathBuf], tools: &Registry) -> Result<Manifest, Error> {
    let text = read_text(path)?;
    let mut manifest = Manifest::from_toml(&text).map_err(|error| {
        let suggestion = did_you_mean(&error.message);
        let told = Error::new(Code::Manifest, error.message).at(path, error.line);
        match suggestion {
            Some(suggestion) => told.help(suggestion),
            None => told.help("`aosk init` writes a manifest that explains every key"),
        }
    })?;
    complete(&mut manifest, &text, path, allowed, tools)?;
    Ok(manifest)
}

/// Checks what a manifest that came with `text` names, and that of the agents that it may spawn, and
/// makes their workspaces absolute. Lines are known for what stands at the top alone.
fn complete(
    manifest: &mut Manifest,
    text: &str,
    path: &Path,
    allowed: &[PathBuf],
    tools: &Registry,
) -> Result<(), Error> {
    let policies: Vec<&str> = policies().collect();
    let (program, policy) = (manifest.program.as_str(), manifest.context.policy.as_str());
    let names: [(Code, &[&str], &str, &[&str]); 2] = [
        (Code::KernelUnknownProgram, &["program"], program, PROGRAMS),
        (Code::Manifest, &["context", "policy"], policy, &policies),
    ];
    for (code, keys, named, known) in names {
        if !known.contains(&named) {
            return Err(unknown(code, keys, named, known).at(path, line_of(text, keys)));
        }
    }
    let known: Vec<&str> = tools.names().chain(KERNEL_TOOLS.iter().copied()).collect();
    if let Some(named) = manifest.tools.iter().find(|name| !known.contains(&name.as_str())) {
        let message = format!("there is no tool {named:?}; `tools` can name: {}", known.join(", "));
        let told = Error::new(Code::KernelUnknownTool, message).at(path, line_of(text, &["tools"]));
        return Err(match nearest(named, known.iter().copied()) {
            Some(near) => told.help(format!("did you mean `{near}`?")),
            None => told,
        });
    }
    if let Some(workspace) = manifest.workspace.take() {
        let line = line_of(text, &["workspace"]);
        manifest.workspace = Some(resolve(path, line, &workspace, allowed)?);
    }
    manifest.children.iter_mut().try_for_each(|child| complete(child, "", path, allowed, tools))
}

fn read_text(path: &Path) -> Result<String, Error> {
    let unreadable = |error: std::io::Error| {
        let told = Error::new(Code::CliFile, format!("cannot read the manifest: {error}"));
        let told = told.at(path, None);
        if error.kind() == std::io::ErrorKind::NotFound {
            return told.help(format!("`aosk init {}` writes one", path.display()));
        }
        told
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(
            Code::Manifest,
            format!("the manifest is larger than {MAX_BYTES} bytes"),
        )
        .at(path, None)
        .help("put long material into a file of the workspace and let the agent read it"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        Error::new(Code::Manifest, "the manifest is not UTF-8")
            .at(path, line)
            .help(format!("iconv -f LATIN1 -t UTF-8 {} converts one", path.display()))
    })
}

/// The workspace as an absolute path without links, if the manifest may have it.
fn resolve(
    manifest: &Path,
    line: Option<usize>,
    workspace: &str,
    allowed: &[PathBuf],
) -> Result<String, Error> {
    let wrong = |message: String| Error::new(Code::ToolWorkspace, message).at(manifest, line);
    let folder = match manifest.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let wanted = folder.join(workspace);
    let found = wanted.canonicalize().map_err(|error| {
        wrong(format!("the workspace {workspace:?} cannot be used: {error}"))
            .help(format!("mkdir -p {}", wanted.display()))
    })?;
    if !found.is_dir() {
        return Err(wrong(format!("the workspace {workspace:?} is no folder")));
    }
    let home = folder.canonicalize().map_err(|error| wrong(format!("{folder:?}: {error}")))?;
    let mut roots = vec![home];
    for folder in allowed {
        roots.push(folder.canonicalize().map_err(|error| {
            Error::new(
                Code::ToolWorkspace,
                format!("--allow-workspace {}: {error}", folder.display()),
            )
        })?);
    }
    if !roots.iter().any(|root| found.starts_with(root)) {
        return Err(wrong(format!(
            "the workspace {workspace:?} is {}, outside the manifest's folder",
            found.display()
        ))
        .help(format!("if you trust this manifest: --allow-workspace {}", found.display())));
    }
    found
        .into_os_string()
        .into_string()
        .map_err(|path| wrong(format!("the workspace {} is not UTF-8", Path::new(&path).display())))
}

/// The error for a name that nothing has.
fn unknown(code: Code, keys: &[&str], named: &str, known: &[&str]) -> Error {
    let (key, known_names) = (keys.join("."), known.join(", "));
    let error = Error::new(code, format!("there is no {key} {named:?}; it can be: {known_names}"));
    match nearest(named, known.iter().copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// The line, from 1, on which a manifest sets a key; `keys` leads to it through its tables.
pub(crate) fn line_of(text: &str, keys: &[&str]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut start = None;
    for wanted in keys {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == wanted)?;
        start = Some(key.span().start);
        if let DeValue::Table(inner) = value.get_ref() {
            table = inner;
        }
    }
    start.map(|start| 1 + text[..start].matches('\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_stays_in_the_manifests_folder_unless_the_user_allows_it() {
        let dir = tempfile::tempdir().expect("folder");
        let (inside, outside) = (dir.path().join("p/ws"), dir.path().join("other"));
        std::fs::create_dir_all(&inside).expect("inside");
        std::fs::create_dir_all(&outside).expect("outside");
        std::os::unix::fs::symlink(&outside, dir.path().join("p/link")).expect("link");
        let manifest = dir.path().join("p/agent.toml");
        let read = |workspace: &str, allowed: &[PathBuf]| {
            std::fs::write(&manifest, format!("name = \"a\"\nworkspace = {workspace:?}\n"))
                .expect("manifest");
            super::read(&manifest, allowed, &Registry::builtin())
        };
        let found = read("ws", &[]).expect("inside").workspace.expect("kept");
        assert_eq!(Path::new(&found), inside.canonicalize().expect("there"));
        assert!(read(".", &[]).is_ok());
        for leading_out in ["../other", "link", "..", outside.to_str().expect("UTF-8"), "ws/../.."]
        {
            let error = read(leading_out, &[]).expect_err(leading_out);
            assert_eq!(error.code, Code::ToolWorkspace);
            assert!(format!("{error:?}").contains("--allow-workspace"), "{error:?}");
        }
        assert!(read("../other", std::slice::from_ref(&outside)).is_ok());
        assert!(read("link", &[outside]).is_ok());
        assert!(read("missing", &[]).is_err());
    }

    #[test]
    fn children_are_held_to_what_their_parent_is() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("agent.toml");
        let read = |child: &str| {
            let text = format!("name = \"a\"\n[[children]]\nname = \"b\"\n{child}");
            std::fs::write(&path, text).expect("manifest");
            super::read(&path, &[], &Registry::builtin())
        };
        let found = read("workspace = \".\"").expect("inside").children.remove(0).workspace;
        assert_eq!(found.map(PathBuf::from), dir.path().canonicalize().ok());
        for (wrong, code) in [
            ("workspace = \"..\"", Code::ToolWorkspace),
            ("tools = [\"fly\"]", Code::KernelUnknownTool),
            ("program = \"fly\"", Code::KernelUnknownProgram),
        ] {
            assert_eq!(read(wrong).expect_err(wrong).code, code);
        }
    }

    #[test]
    fn a_tool_that_nothing_has_is_told_with_all_that_there_are_and_the_nearest() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("agent.toml");
        let read = |tool: &str| {
            std::fs::write(&path, format!("name = \"a\"\ntools = [\"{tool}\"]\n"))
                .expect("manifest");
            read(&path, &[], &Registry::builtin())
        };
        let error = read("recal").expect_err("misspelt");
        assert_eq!(error.code, Code::KernelUnknownTool);
        assert!(
            error.said().contains("calculator") && error.said().contains("recall"),
            "{error:?}"
        );
        assert_eq!(error.helps(), ["did you mean `recall`?"]);
        assert!(read("recall").is_ok() && read("read_file").is_ok());
    }

    #[test]
    fn manifests_at_and_above_the_size_limit() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("agent.toml");
        let head = "name = \"a\"\n#";
        let fill = |bytes: u64| {
            let rest = usize::try_from(bytes).expect("small") - head.len();
            std::fs::write(&path, format!("{head}{}", "x".repeat(rest))).expect("manifest");
            read(&path, &[], &Registry::builtin())
        };
        assert!(fill(MAX_BYTES).is_ok());
        assert!(fill(MAX_BYTES + 1).is_err());
    }
}
