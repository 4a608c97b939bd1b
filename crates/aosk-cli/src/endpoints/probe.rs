//! Whether a model can be asked: what `aosk doctor` says of tables, keys and endpoints.
//!
//! It stands beside what `aosk run` connects with, because it must not judge by other rules.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aosk_abi::Code;
use aosk_llm::{Endpoint, Options, Provider, discover};
use aosk_ports::CallError;

use super::Endpoints;
use crate::config::{Folders, Settings};
use crate::doctor::Check;
use crate::error::Error;

/// How long an endpoint may take to list its models. A person waits for all of them at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Variables that say by which proxy an endpoint is reached.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// An endpoint that could be asked.
struct Candidate {
    endpoint: Endpoint,
    /// The providers that are asked there.
    providers: Vec<String>,
    /// Whether the user set an address or a key of it; else it is the usual port of this machine.
    is_set: bool,
    /// Whether the chosen model is asked there.
    is_chosen: bool,
}

/// Looks at the table of models, the keys, the chosen model, and each endpoint that is set.
pub(crate) async fn endpoints_ready(
    settings: &Settings,
    folders: &Folders,
    offline: bool,
) -> Vec<Check> {
    let endpoints = match Endpoints::load(folders) {
        Ok(endpoints) => endpoints,
        Err(error) => {
            let is_table = error.code == Code::LlmModelTable;
            return vec![
                Check::missing(if is_table { "models" } else { "keys" }, &error),
                Check::warn("endpoints", "not looked at", "mend that first"),
            ];
        }
    };
    crate::print::hide(endpoints.redactor());
    let providers = providers(&endpoints);
    let mut checks = vec![files(folders, &endpoints), variables(&endpoints, &providers)];

    let chosen = endpoints
        .default_model(settings)
        .and_then(|name| endpoints.select(&name).map(|(_, endpoint)| (name, endpoint)));
    let candidates = candidates(&endpoints, &providers, chosen.as_ref().ok().map(|(_, e)| e));
    let any = candidates.iter().any(|candidate| candidate.is_set);
    checks.push(match &chosen {
        Ok((name, endpoint)) => Check::ok("model", format!("{name}, asked at {}", endpoint.base())),
        // Manifests may name models of their own.
        Err(error) => {
            Check::missing("model", error).or_warn(any && error.code == Code::CliNoEndpoint)
        }
    });
    if offline {
        let next = "leave --offline out to ask them";
        checks.push(Check::warn("endpoints", "not asked (--offline)", next));
    } else {
        checks.extend(ask(candidates).await);
    }
    checks
}

/// The providers of the table.
fn providers(endpoints: &Endpoints) -> BTreeMap<String, Provider> {
    let models = endpoints.models();
    let specs = models.names().filter_map(|name| models.resolve(name).ok());
    specs.map(|spec| (spec.provider.name.clone(), spec.provider)).collect()
}

/// The variables that a provider reads.
fn names(provider: &Provider) -> impl Iterator<Item = &String> {
    [&provider.base_url_env, &provider.key_env, &provider.token_env].into_iter().flatten()
}

/// The user's own files about models.
fn files(folders: &Folders, endpoints: &Endpoints) -> Check {
    let there: Vec<String> = [folders.models(), folders.keys()]
        .into_iter()
        .filter_map(|path| {
            let mode = path.metadata().ok()?.permissions().mode() & 0o777;
            Some(format!("{} (mode {mode:04o})", path.display()))
        })
        .collect();
    let count = endpoints.models().names().count();
    let files = if there.is_empty() { "no file of yours".to_owned() } else { there.join(", ") };
    Check::ok("models", format!("{count} in the table; {files}"))
}

/// Which variables are set. Their values are never shown: an address may hold a password.
fn variables(endpoints: &Endpoints, providers: &BTreeMap<String, Provider>) -> Check {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let names: BTreeSet<&str> = providers.values().flat_map(names).map(String::as_str).collect();
    let mut said: Vec<String> =
        names.iter().filter(|name| is_set(name)).map(|name| (*name).to_owned()).collect();
    let stored = names.iter().filter(|name| !is_set(name) && endpoints.get(name).is_some());
    said.extend(stored.map(|name| format!("{name} (keys.toml)")));
    let proxies = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    said.extend(proxies.filter(|name| is_set(&name.as_str())));
    let none = || "none of those that providers read is set".to_owned();
    Check::ok("variables", if said.is_empty() { none() } else { said.join(", ") })
}

/// The endpoints that can be asked, each once.
fn candidates(
    endpoints: &Endpoints,
    providers: &BTreeMap<String, Provider>,
    chosen: Option<&Endpoint>,
) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let models = endpoints.models();
    let mut seen = BTreeSet::new();
    for name in models.names() {
        let Ok((spec, endpoint)) = endpoints.select(name) else { continue };
        let provider = spec.provider.name;
        if !seen.insert(provider.clone()) {
            continue;
        }
        let is_set = providers
            .get(&provider)
            .is_some_and(|about| names(about).any(|name| endpoints.get(name).is_some()));
        let is_chosen = chosen == Some(&endpoint);
        match found.iter_mut().find(|known| known.endpoint == endpoint) {
            Some(known) => {
                known.providers.push(provider);
                known.is_set |= is_set;
                known.is_chosen |= is_chosen;
            }
            None => {
                found.push(Candidate { endpoint, providers: vec![provider], is_set, is_chosen })
            }
        }
    }
    // Nobody asked for a provider on the network whose variables are not set.
    found.retain(|known| known.is_set || known.is_chosen || known.endpoint.is_loopback());
    found
}

/// Asks all of them at once for their models.
async fn ask(candidates: Vec<Candidate>) -> Vec<Check> {
    let options = Options {
        connect: PATIENCE,
        first_byte: PATIENCE,
        idle: PATIENCE,
        total: PATIENCE,
        ..Options::default()
    };
    let asked: Vec<_> = candidates
        .into_iter()
        .map(|candidate| {
            let endpoint = candidate.endpoint.clone();
            let answer = tokio::spawn(async move {
                tokio::time::timeout(PATIENCE, discover(&endpoint, options)).await
            });
            (candidate, answer)
        })
        .collect();
    let mut checks = Vec::new();
    for (candidate, answer) in asked {
        let who = format!("{} at {}", candidate.providers.join(", "), candidate.endpoint.base());
        let failed = |code, why: String| {
            // Devices say what to do behind the last semicolon.
            let (why, next) = why.rsplit_once("; ").unwrap_or((&why, "check its address and key"));
            let error = Error::new(code, format!("{who}: {why}")).help(next);
            Check::missing("endpoint", &error)
        };
        let check = match answer.await {
            Ok(Ok(Ok(served))) => {
                let ids: Vec<&str> =
                    served.models.iter().take(3).map(|model| model.id.as_str()).collect();
                let more = served.models.len().saturating_sub(ids.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                Check::ok("endpoint", format!("{who} serves {}{more}", ids.join(", ")))
            }
            // It answers, though not with a list. A run needs one of servers on this machine alone.
            Ok(Ok(Err(CallError {
                code: Code::LlmProtocol | Code::LlmBadRequest | Code::LlmUnknownModel,
                ..
            }))) if !candidate.endpoint.is_loopback() => {
                Check::ok("endpoint", format!("{who} answers, but lists no models"))
            }
            Ok(Ok(Err(CallError { code, message, .. }))) => failed(code, message),
            Ok(Err(_)) => {
                let seconds = PATIENCE.as_secs();
                failed(Code::LlmUnreachable, format!("no answer within {seconds} s"))
            }
            Err(error) => failed(Code::KernelPanic, error.to_string()),
        };
        // A usual port where nobody listens is nobody's business.
        if candidate.is_set || candidate.is_chosen || check.is_ok() {
            checks.push((candidate.is_chosen, check));
        }
    }
    // One that answers is enough to run, unless the chosen model is asked elsewhere.
    let any = checks.iter().any(|(_, check)| check.is_ok());
    checks.into_iter().map(|(is_chosen, check)| check.or_warn(any && !is_chosen)).collect()
}
