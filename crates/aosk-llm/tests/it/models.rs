//! The table of models, and where keys go.

use std::time::Duration;

use aosk_abi::{Code, MicroDollars, Tokens};
use aosk_llm::{Dialect, Endpoint, Error, MaxOutputField, ModelSpec, Models};

fn select(
    models: &Models,
    name: &str,
    variables: &[(&str, &str)],
) -> Result<(ModelSpec, Endpoint), Error> {
    models.select(name, &|wanted| {
        variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
    })
}

fn extended(text: &str) -> Result<Models, Error> {
    let mut models = Models::embedded();
    models.extend_toml(text, "my.toml").map(|()| models)
}

fn message(text: &str) -> String {
    extended(text).map(|_| ()).expect_err("refused").to_string()
}

const KEY: (&str, &str) = ("OPENAI_API_KEY", "sk-1");

#[test]
fn every_built_in_model_is_complete() {
    let models = Models::embedded();
    for name in models.names() {
        let spec = models.resolve(name).expect("complete");
        // Only what runs on this machine is free, and cached input is never dearer than fresh.
        assert_eq!(spec.prices.output == MicroDollars::ZERO, spec.provider.loopback, "{name}");
        assert!(spec.prices.cached <= spec.prices.input, "{name}");
        assert_eq!(spec.id.is_none(), spec.provider.loopback, "{name}");
        let is_anthropic = spec.provider.name.contains("anthropic");
        assert_eq!(spec.provider.dialect == Dialect::Anthropic, is_anthropic, "{name}");
        // Anthropic takes a quarter more for input that it writes to its cache, nobody else does.
        let quarter = if is_anthropic { spec.prices.input.0 / 4 } else { 0 };
        assert_eq!(spec.prices.cache_write.0, spec.prices.input.0 + quarter, "{name}");
        // And twice as much for an hour, which its own endpoint can be asked for.
        let hour = (spec.provider.name == "anthropic").then_some(Duration::from_secs(3_600));
        assert_eq!(spec.quirks.cache_long, hour, "{name}");
        let twice = hour.map_or(spec.prices.cache_write.0, |_| spec.prices.input.0 * 2);
        assert_eq!(spec.prices.cache_write_long.0, twice, "{name}");
    }
    let nano = models.resolve("gpt-4.1-nano").expect("known");
    assert_eq!(nano.prices.cached, MicroDollars(25_000));
    assert_eq!(nano.prices.cache_write, nano.prices.input);
    assert_eq!(nano.quirks.max_output_field, MaxOutputField::MaxCompletionTokens);
    assert!(nano.quirks.temperature && nano.quirks.prompt_cache_key && !nano.quirks.cache_prompt);
    assert!(!models.resolve("gpt-5").expect("known").quirks.temperature);
    assert_eq!(
        (nano.quirks.cache, nano.quirks.cache_minimum),
        (Some(Duration::from_secs(300)), 1_024)
    );
}

#[test]
fn each_provider_is_asked_where_it_is_with_its_own_key() {
    let models = Models::embedded();
    for (model, key, base) in [
        ("claude-opus-5-5", "ANTHROPIC_API_KEY", "https://api.anthropic.com"),
        ("claude-opus-5-5", "ANTHROPIC_AUTH_TOKEN", "https://api.anthropic.com"),
        ("deepseek-flash", "DEEPSEEK_API_KEY", "https://api.deepseek.com"),
        ("kimi-k3", "MOONSHOT_API_KEY", "https://api.moonshot.ai/v1"),
        (
            "qwen3.7-plus",
            "DASHSCOPE_API_KEY",
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ),
        ("gpt-5-mini", "OPENAI_API_KEY", "https://api.openai.com/v1"),
    ] {
        let (spec, endpoint) = select(&models, model, &[(key, "k")]).expect("known");
        assert_eq!(endpoint.base(), base);
        // What the provider did not say about itself is not sent to it.
        let others =
            [KEY, ("ANTHROPIC_API_KEY", "k"), ("DEEPSEEK_API_KEY", "k"), ("MOONSHOT_API_KEY", "k")];
        let others: Vec<_> = others
            .into_iter()
            .filter(|(name, _)| Some(*name) != spec.provider.key_env.as_deref())
            .collect();
        let error = select(&models, model, &others).expect_err("no key");
        assert_eq!(error.code(), Code::LlmAuth);
        let variable = spec.provider.key_env.expect("a variable");
        assert!(error.to_string().contains(&format!("set {variable}")), "{error}");
    }
    // A server on this machine needs no key, and some stand where they always stand.
    for (model, base) in
        [("ollama", "http://127.0.0.1:11434/v1"), ("vllm", "http://127.0.0.1:8000/v1")]
    {
        assert_eq!(select(&models, model, &[]).expect("known").1.base(), base);
    }
    let here = [("ANTHROPIC_BASE_URL", "http://127.0.0.1:8080")];
    assert!(select(&models, "local-anthropic", &here).is_ok());
    let there = [("ANTHROPIC_BASE_URL", "https://gateway.test"), ("ANTHROPIC_API_KEY", "k")];
    let error = select(&models, "local-anthropic", &there).expect_err("not here");
    assert_eq!(error.code(), Code::CliNoEndpoint);
}

#[test]
fn a_users_table_adds_models_and_overrides_single_keys() {
    let models = extended(
        "[providers.deep]\ndialect = \"openai\"\nbase_url = \"https://api.deep.test/v1/\"\nkey_env = \"DEEP_KEY\"\nslots = 8\n\
         [models.deep-chat]\nprovider = \"deep\"\nid = \"deep-chat-v3\"\nwindow = 131072\nmax_output = 8000\nprice = { input = 0.28, cached = 0.028, output = 0.42 }\n\
         [models.gpt-5]\nmax_output = 2000\nprice = { output = 12.5 }\n",
    )
    .expect("valid");
    let (deep, endpoint) = select(&models, "deep-chat", &[("DEEP_KEY", "k")]).expect("known");
    assert_eq!((deep.id.as_deref(), deep.slots), (Some("deep-chat-v3"), 8));
    assert_eq!(endpoint.base(), "https://api.deep.test/v1");
    let gpt = models.resolve("gpt-5").expect("known");
    assert_eq!((gpt.max_output, gpt.window), (Tokens(2000), Tokens(400_000)));
    assert_eq!(gpt.prices.output, MicroDollars(12_500_000));
    assert_eq!(gpt.prices.input, MicroDollars(1_250_000));
    assert!(!gpt.quirks.temperature);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let new = |keys: &str| format!("\n[models.x]\nprovider = \"openai\"\n{keys}");
    let full = "window = 100\nmax_output = 10\nprice = { input = 1.0, output = 1.0 }\n";
    assert!(extended(&new(full)).is_ok());
    for (text, line, words) in [
        (new(full).replace("window", "windwo"), 4, "did you mean `window`?"),
        (new(full).replace("output = 1.0", "outptu = 1.0"), 6, "did you mean `output`?"),
        ("[modles.x]".to_owned(), 1, "did you mean `models`?"),
        (new("window = \"100\""), 4, "invalid type"),
        (new("window = 100\nmax_output = "), 5, ""),
        (new(full).replace("\"openai\"", "\"opneai\""), 2, "did you mean \"openai\"?"),
        (new(full).replace("provider = \"openai\"\n", ""), 2, "`provider` is missing"),
        (new(full).replace("window = 100\n", ""), 2, "`window` is missing"),
        (new(full).replace("max_output = 10\n", ""), 2, "`max_output` is missing"),
        (new(full).replace("input = 1.0, ", ""), 2, "`price.input` is missing"),
        (new(full).replace(", output = 1.0", ""), 2, "`price.output` is missing"),
        (new(full).replace("input = 1.0", "input = -0.1"), 2, "`price.input` is -0.1"),
        (new(full).replace("input = 1.0", "input = nan"), 2, "`price.input` is NaN"),
        (new(full).replace("window = 100", "window = 0"), 2, "`window` is 0"),
        (new(full).replace("max_output = 10", "max_output = 0"), 2, "`max_output` is 0"),
        (new(full).replace("max_output = 10", "max_output = 100"), 2, "must hold the prompt too"),
        (new(&format!("slots = 0\n{full}")), 2, "`slots` is 0"),
        ("[providers.openai]\nslots = 0".to_owned(), 1, "`slots` is 0"),
        ("[providers.openai]\ndialect = \"opnai\"".to_owned(), 2, "did you mean `openai`?"),
        (new(&format!("{full}quirks.bound_thinking = true")), 2, "no quirk `bound_thinking`"),
        (new(&format!("{full}quirks.unsigned_thinking = true")), 2, "no quirk `unsigned_thinking`"),
        (
            "[providers.anthropic.quirks]\njson_schema = true".to_owned(),
            1,
            "no quirk `json_schema`",
        ),
        ("[providers.anthropic.quirks]\necho = []".to_owned(), 1, "no quirk `echo`"),
        (
            "[models.claude-opus-5.quirks]\ncache_prompt = true".to_owned(),
            1,
            "no quirk `cache_prompt`",
        ),
    ] {
        let message = message(&text);
        assert!(message.starts_with(&format!("my.toml:{line}: ")), "{message}");
        assert!(message.contains(words), "{message}");
    }
    assert!(extended(&new(full).replace("max_output = 10", "max_output = 99")).is_ok());
    // A table that is refused changes nothing.
    let mut models = Models::embedded();
    let text = format!("[models.gpt-5]\nwindow = 9000\n{}", new("window = 0"));
    assert_eq!(models.extend_toml(&text, "t").expect_err("refused").code(), Code::LlmModelTable);
    assert_eq!(models.resolve("gpt-5").expect("known").window, Tokens(400_000));
}

#[test]
fn what_anthropic_takes_for_writing_to_its_cache_is_never_guessed() {
    let entry = |provider: &str, price: &str| {
        format!(
            "\n[models.x]\nprovider = {provider:?}\nwindow = 100\nmax_output = 10\n\
             price = {{ input = 4.0, output = 20.0{price} }}"
        )
    };
    let message = message(&entry("anthropic", ""));
    assert!(
        message.starts_with("my.toml:2: models.\"x\": `price.cache_write` is missing"),
        "{message}"
    );
    assert!(message.contains("1.25 times `price.input`"), "{message}");
    let write = |provider, price| {
        let models = extended(&entry(provider, price)).expect("valid");
        models.resolve("x").expect("known").prices.cache_write
    };
    assert_eq!(write("anthropic", ", cache_write = 5.0"), MicroDollars(5_000_000));
    // Nobody else takes more for it than for fresh input, and what runs here costs what it costs.
    assert_eq!(write("openai", ""), MicroDollars(4_000_000));
    assert_eq!(write("local-anthropic", ""), MicroDollars(4_000_000));
    // A key of a built-in entry may be overridden by itself.
    let models = extended("[models.claude-opus-5]\nprice = { input = 4.5 }").expect("valid");
    let prices = models.resolve("claude-opus-5").expect("known").prices;
    assert_eq!(prices.cache_write, MicroDollars(6_250_000));
}

#[test]
fn a_long_life_is_one_that_can_be_asked_for_and_has_a_price() {
    let entry = |price: &str, quirks: &str| {
        format!(
            "\n[models.x]\nprovider = \"anthropic\"\nwindow = 100\nmax_output = 10\n\
             price = {{ input = 4.0, cache_write = 5.0, output = 20.0{price} }}\n\
             quirks = {{ {quirks} }}"
        )
    };
    let priced = ", cache_write_long = 8.0";
    for (price, quirks, words) in [
        ("", "cache_long_s = 3600", "`price.cache_write_long` is missing"),
        (", cache_write_long = 5.0", "", "no more than `price.cache_write`"),
        (", cache_write_long = -8.0", "", "`price.cache_write_long` is -8"),
        (priced, "cache_long_s = 1800", "can ask for 3600 alone"),
        (priced, "cache_long_s = 3599", "can ask for 3600 alone"),
        (priced, "cache_long_s = 3601", "can ask for 3600 alone"),
        (priced, "cache_s = 3600", "no longer than `quirks.cache_s`, 3600"),
        (priced, "cache_s = 3601", "no longer than `quirks.cache_s`, 3601"),
        (priced, "cache_long = 3600", "did you mean `cache_long_s`?"),
    ] {
        let message = message(&entry(price, quirks));
        assert!(message.starts_with("my.toml:"), "{message}");
        assert!(message.contains(words), "{message}");
    }
    let message = message(&format!(
        "[providers.y]\ndialect = \"anthropic\"\nslots = 1\nquirks.cache_long_s = 3600\n{}",
        entry(priced, "").replace("\"anthropic\"", "\"y\"")
    ));
    assert!(message.contains("`quirks.cache_s`") && message.contains("is not"), "{message}");
    for (provider, words) in [
        ("openai", "no quirk `cache_long_s`"),
        ("local-anthropic", "a server on this machine keeps prompts by itself"),
    ] {
        let text = entry(priced, "cache_long_s = 3600");
        let error = extended(&text.replace("\"anthropic\"", &format!("{provider:?}")));
        let message = error.map(|_| ()).expect_err(provider).to_string();
        assert!(message.contains(words), "{message}");
    }
    let life = |text: &str| {
        let spec = extended(text).expect("valid").resolve("x").expect("known");
        (spec.quirks.cache_long.map(|life| life.as_secs()), spec.prices.cache_write_long.0)
    };
    assert_eq!(life(&entry(priced, "")), (Some(3_600), 8_000_000));
    assert_eq!(life(&entry(priced, "cache_s = 3599")), (Some(3_600), 8_000_000));
    // What a table says that knows nothing of it holds as before.
    assert_eq!(life(&entry("", "")), (None, 5_000_000));
    // It is switched off for a model, or for all of a provider.
    assert_eq!(life(&entry(priced, "cache_long_s = 0")), (None, 8_000_000));
    let off = "[providers.anthropic]\nquirks = { cache_long_s = 0 }\n";
    assert_eq!(life(&format!("{off}{}", entry(priced, ""))), (None, 8_000_000));
    let built_in = extended(off).expect("valid").resolve("claude-opus-5").expect("known");
    assert_eq!(built_in.quirks.cache_long, None);
}

#[test]
fn an_unknown_model_is_free_here_and_refused_elsewhere() {
    let models = Models::embedded();
    let error = select(&models, "gtp-5-mini", &[KEY]).expect_err("unknown");
    assert_eq!(error.code(), Code::LlmUnknownModel);
    assert!(error.to_string().contains("did you mean \"gpt-5-mini\"?"), "{error}");
    for here in ["http://127.0.0.1:8080/v1", "http://localhost:1/v1", "http://[::1]:1/v1"] {
        let (spec, endpoint) =
            select(&models, "qwen3:8b", &[("OPENAI_BASE_URL", here)]).expect("free");
        assert_eq!((spec.name.as_str(), spec.id.as_deref()), ("qwen3:8b", Some("qwen3:8b")));
        assert_eq!(spec.prices.output, MicroDollars::ZERO);
        assert!(spec.quirks.cache_prompt && endpoint.is_loopback());
    }
    for there in ["https://gateway.test/v1", "http://127.0.0.1.test/v1", "http://10.0.0.1/v1"] {
        let variables = [("OPENAI_BASE_URL", there), KEY];
        let error = select(&models, "qwen3:8b", &variables).expect_err("no price");
        assert!(error.to_string().contains("price = { input"), "{error}");
        let error = select(&models, "local", &[("OPENAI_BASE_URL", there)]).expect_err("not here");
        assert_eq!(error.code(), Code::CliNoEndpoint);
        assert!(error.to_string().contains("on this machine"), "{error}");
    }
}

#[test]
fn a_key_goes_to_its_provider_or_where_the_user_sent_it_beside() {
    let models = extended(
        "[providers.deep]\ndialect = \"openai\"\nbase_url = \"https://api.deep.test/v1\"\nkey_env = \"DEEP_KEY\"\nslots = 1\n\
         [models.deep]\nprovider = \"deep\"\nwindow = 100\nmax_output = 10\nprice = { input = 1, output = 1 }\n",
    )
    .expect("valid");
    let base =
        |name, variables: &[_]| select(&models, name, variables).map(|(_, e)| e.base().to_owned());
    assert_eq!(base("gpt-5", &[KEY]).expect("set"), "https://api.openai.com/v1");
    let moved = [KEY, ("OPENAI_BASE_URL", "https://gateway.test/openai/")];
    assert_eq!(base("gpt-5", &moved).expect("set"), "https://gateway.test/openai");
    // One provider's variables say nothing about another's.
    let error = base("deep", &moved).expect_err("no key");
    assert_eq!(error.code(), Code::LlmAuth);
    assert!(error.to_string().contains("api.deep.test: set DEEP_KEY"), "{error}");
    let error = base("gpt-5", &[("OPENAI_API_KEY", "")]).expect_err("no key");
    assert!(error.to_string().contains("set OPENAI_API_KEY"), "{error}");
    let error = base("local", &[KEY]).expect_err("no address");
    assert_eq!(error.code(), Code::CliNoEndpoint);
    assert!(error.to_string().contains("set OPENAI_BASE_URL"), "{error}");
    for bad in ["sk-1\n", "sk 1", "\"sk-1\""] {
        let error = base("gpt-5", &[("OPENAI_API_KEY", bad)]).expect_err("no key");
        assert!(!error.to_string().contains("sk"), "{error}");
    }
}

#[test]
fn addresses_that_would_leak_or_cannot_work_are_refused() {
    let with_key = || aosk_llm::Secret::new("sk-1");
    let refused = |base: &str| {
        let error = Endpoint::new("OPENAI_BASE_URL", base, with_key()).expect_err("refused");
        assert_eq!(error.code(), Code::CliNoEndpoint);
        error.to_string()
    };
    for base in ["https://me:pw-7@host/v1", "https://me:pw-7@host:x/v1", "https://pw-7@host/v1"] {
        let message = refused(base);
        assert!(message.contains("OPENAI_BASE_URL") && !message.contains("pw-7"), "{message}");
    }
    assert!(refused("http://host.test/v1").contains("unencrypted"));
    assert!(Endpoint::new("o", "http://host.test/v1", None).is_ok());
    assert!(Endpoint::new("o", "http://127.9.9.9:1/v1", with_key()).is_ok());
    assert!(Endpoint::new("o", "https://host.test/v1", with_key()).is_ok());
    for base in [
        "ftp://host/v1",
        "host/v1",
        "",
        "https://host/v1?x=1",
        "https://host/v1#x",
        "localhost:8080",
    ] {
        refused(base);
    }
}

#[test]
fn an_alias_is_its_first_model_and_lists_the_others() {
    let models = extended("[aliases]\nfast = [\"gpt-5-mini\", \"claude-haiku-4-5\", \"kimi-k3\"]")
        .expect("valid");
    let (spec, _) = select(&models, "fast", &[KEY]).expect("the first");
    assert_eq!(spec.name, "gpt-5-mini");
    assert_eq!(models.alternatives("fast"), ["claude-haiku-4-5", "kimi-k3"]);
    assert!(models.alternatives("gpt-5-mini").is_empty());
    assert!(models.names().any(|name| name == "fast"));

    let models =
        extended("[aliases]\nfast = [{ kimi-k3 = 2, gpt-5-mini = 1 }, \"gpt-5\"]").expect("valid");
    let weights = [("gpt-5-mini".to_owned(), 1), ("kimi-k3".to_owned(), 2)];
    assert_eq!((models.spread("fast"), models.spread("gpt-5")), (&weights[..], &[][..]));
    assert_eq!(models.alternatives("fast"), ["gpt-5"]);

    let near = message("[aliases]\nfast = [\"gpt-5-mimi\"]");
    assert!(near.contains("my.toml:2") && near.contains("did you mean \"gpt-5-mini\"?"), "{near}");
    for (text, said) in [
        ("[aliases]\nfast = []", "names no model"),
        ("[aliases]\nfast = [\"kimi-k3\", \"kimi-k3\"]", "twice"),
        ("[aliases]\nkimi-k3 = [\"gpt-5-mini\"]", "a model has this name"),
        ("[aliases]\na = [\"kimi-k3\"]\nb = [\"a\"]", "\"a\", an alias"),
        ("[aliases]\na = [\"b\"]\nb = [\"a\"]", "leads back to itself"),
        ("[aliases]\na = [\"a\"]", "leads back to itself"),
        ("[aliases]\na = [{ kimi-k3 = 0 }]", "the weight of \"kimi-k3\" is 0"),
        ("[aliases]\na = [{ kimi-k3 = 1 }, \"kimi-k3\"]", "twice"),
        ("[aliases]\na = [\"gpt-5\", { kimi-k3 = 1 }]", "stand first"),
        ("[aliases]\na = [{ kimi-k4 = 1 }]", "did you mean \"kimi-k3\""),
        ("[aliases]\na = [1]", "a table of models with weights"),
    ] {
        let message = message(text);
        assert!(message.contains(said), "{message}");
    }
}
