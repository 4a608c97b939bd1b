//! Settings: which layer wins, what a project may not say, and where an error stands.

use std::os::unix::fs::PermissionsExt;

use crate::endpoint::{Answer, Endpoint, says};
use crate::world::{KEY, World};

/// The spend limit that a run says it has.
fn limit(world: &World, more: &[&str]) -> String {
    let agent = world.agent("a", "");
    let ran = world.run(&[&["run", &agent, "hi"], more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = ran.err.lines().find(|line| line.starts_with("This run may spend")).expect("said");
    line.to_owned()
}

#[test]
fn flags_win_over_variables_over_the_project_over_the_user_over_defaults() {
    let mut world = World::with(&says("hello"));
    assert_eq!(limit(&world, &[]), "This run may spend $1.00 (the default).");
    world.configure("config.toml", "max_spend_usd = 0.5\n");
    assert_eq!(limit(&world, &[]), "This run may spend $0.50 (your config.toml).");
    world.write("aosk.toml", "max_spend_usd = 0.25\n");
    assert_eq!(limit(&world, &[]), "This run may spend $0.25 (the project's aosk.toml).");
    world.set("AOSK_MAX_SPEND_USD", "2");
    assert_eq!(limit(&world, &[]), "This run may spend $2.00 (the variable AOSK_MAX_SPEND_USD).");
    assert_eq!(
        limit(&world, &["--max-spend-usd", "3"]),
        "This run may spend $3.00 (--max-spend-usd)."
    );
}

#[test]
fn the_data_folder_is_private_and_where_the_user_says() {
    let mut world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    let mode = std::fs::metadata(world.data()).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let other = world.path("other-data");
    world.set("AOSK_DATA_DIR", other.to_str().expect("UTF-8"));
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    assert!(other.join("aosk.db").exists());
    assert_eq!(world.processes().len(), 1);
    let third = world.path("third");
    let ran = world.run(&["ps", "--data-dir", third.to_str().expect("UTF-8")]);
    assert_eq!((ran.code, third.exists()), (Some(0), false), "looking makes nothing");
}

#[test]
fn a_wrong_key_or_value_is_named_with_file_line_and_suggestion() {
    let mut world = World::new();
    for (text, line, said) in [
        ("# mine\nmodle = \"x\"\n", 2, "did you mean `model`?"),
        ("max_spend_usd = \"much\"\n", 1, "`max_spend_usd`"),
        ("\nmax_spend_usd = -1.0\n", 2, "0 or more"),
        ("color = \"nevr\"\n", 1, "did you mean `never`?"),
        ("model = 7\n", 1, "`model`"),
        ("model = \n", 1, "config.toml"),
        ("[tenants.local]\nweight = 0\n", 2, "give 1 to 1048576"),
        ("[tenants.local]\nweight = 1048577\n", 2, "give 1 to 1048576"),
        ("[tenants.local]\nwieght = 1\n", 2, "wieght"),
        ("[tenants.local]\n\nquota.requests = \"0/minute\"\n", 3, "give at least 1"),
        ("[pools.local]\nquota.requests = \"60\"\n", 2, "60/minute"),
        ("[pools.local]\norder = \"random\"\n", 2, "fsp"),
        ("[tenants.local.groups.g]\nquota.spend = \"0/day\"\n", 2, "more than 0"),
        ("[memory]\nembeder = \"none\"\n", 2, "embeder"),
        ("[memory]\nembedder = 3\n", 2, "`memory.embedder`"),
        ("[tenant.local]\nweight = 1\n", 1, "did you mean `tenants`?"),
    ] {
        world.configure("config.toml", text);
        let path = world.config("config.toml");
        world
            .run(&["ps"])
            .failed(2, "AOSK-C002")
            .says(&format!("--> {}:{line}\n", path.display()))
            .says(said);
    }
    world.configure("config.toml", "");
    for (name, value, said) in [
        ("AOSK_MAX_SPEND_USD", "much", "AOSK_MAX_SPEND_USD"),
        ("AOSK_COLOR", "blue", "AOSK_COLOR"),
        ("AOSK_MAX_SPEND", "1", "did you mean AOSK_MAX_SPEND_USD?"),
        ("AOSK_LOG", "a=b=c", "AOSK_LOG"),
    ] {
        world.set(name, value);
        world.run(&["ps"]).failed(2, "AOSK-C002").says(said);
        world.unset(name);
    }
    assert_eq!(world.run(&["ps"]).code, Some(0));
}

#[test]
fn a_project_file_may_not_say_where_data_money_and_keys_go() {
    let world = World::with(&says("hello"));
    for (text, said) in [
        ("base_url = \"http://evil.example\"\n", "OPENAI_BASE_URL"),
        ("api_key = \"sk-1\"\n", "keys.toml"),
        ("OPENAI_API_KEY = \"sk-1\"\n", "keys.toml"),
        ("data_dir = \"/tmp\"\n", "AOSK_DATA_DIR"),
        ("[models.x]\nwindow = 1\n", "models.toml"),
        ("[tenants.local]\nquota.spend = \"9/day\"\n", "your own config.toml"),
        ("[memory]\nembedder = \"local\"\n", "your own config.toml"),
        ("[pools.local]\norder = \"fair\"\n", "your own config.toml"),
        ("max_spend_usd = 1.01\n", "$1.01, above your own limit of $1.00"),
    ] {
        world.write("aosk.toml", text);
        world.run(&["ps"]).failed(2, "AOSK-C002").says("--> aosk.toml:1\n").says(said);
    }
    world.configure("config.toml", "max_spend_usd = 2\n");
    assert_eq!(world.run(&["ps"]).code, Some(0), "it is below the user's own limit now");
}

#[test]
fn agents_share_the_servers_of_an_alias_and_none_fails_with_one_of_them() {
    let ill = Endpoint::new(|_| Answer::Status(503, "{}".to_owned()));
    let well = says("here I am");
    let world = World::new();
    let (one, two) = (ill.table("one", 2), well.table("two", 2));
    let alias = "[aliases]\nboth = [{ one = 1, two = 1 }]\n";
    world.configure("models.toml", &format!("{one}{two}{alias}"));
    let agent = world.agent("a", "model = \"both\"");
    let ran = world.run(&["run", &agent, "hi"]);
    assert!(ran.code == Some(0) && ran.out.contains("here I am"), "{ran:?}");
    assert_eq!((ill.asked().len(), well.asked().len()), (2, 1));
    let events = world.events(&world.only_pid());
    let routed = events.iter().find(|event| event["kind"] == "routed").expect("it says where");
    assert!(routed.to_string().contains("\"one\""), "{routed}");
}

#[test]
fn a_quota_of_a_pool_that_is_not_there_is_refused_before_anything_runs() {
    let world = World::new();
    let agent = world.agent("a", "");
    world.configure("models.toml", "[aliases]\nfast = [\"gpt-5-mini\"]\n");
    for (name, said) in [("gpt-5-mimi", "did you mean \"gpt-5-mini\"?"), ("fast", "an alias of")] {
        world.configure("config.toml", &format!("[pools.{name}]\nquota.calls_at_once = 1\n"));
        world.run(&["run", &agent, "hi"]).failed(2, "AOSK-C002").says(said);
        assert!(!world.data().join("aosk.db").exists(), "nothing was begun");
    }
}

#[test]
fn an_embedder_that_cannot_work_is_refused_before_anything_runs() {
    let mut world = World::new();
    let agent = world.agent("a", "");
    let folder = world.path("no-model");
    std::fs::create_dir_all(&folder).expect("a folder");
    let folder = folder.display();
    world.configure("models.toml", &format!("[embedders.minilm]\nfolder = \"{folder}\"\n"));
    for (name, said) in [
        ("text-embedding-3-smal", "did you mean \"text-embedding-3-small\"?"),
        ("text-embedding-3-small", "OPENAI_API_KEY"),
        ("minilm", "config.json"),
    ] {
        world.configure("config.toml", &format!("[memory]\nembedder = \"{name}\"\n"));
        for command in [&["run", &agent, "hi"][..], &["daemon", "run"]] {
            world.run(command).failed(2, "AOSK-C002").says(said).says("searches by words alone");
        }
        assert!(!world.data().join("aosk.db").exists(), "nothing was begun");
    }
    let endpoint = says("hello");
    world.set("OPENAI_BASE_URL", &endpoint.url());
    world.configure("config.toml", "[memory]\nembedder = \"none\"\n");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    assert!(world.data().join("search.db").exists(), "the run kept the index up");
}

#[test]
fn an_agent_whose_quota_does_not_cover_a_call_is_parked_and_goes_on_with_a_greater_one() {
    let world = World::with(&says("hello"));
    world.configure(
        "models.toml",
        "[models.mine]\nprovider = \"local\"\nwindow = 9000\nmax_output = 100\nprice = { input = 1, output = 2 }\n",
    );
    world.configure("config.toml", "[tenants.local]\nquota.spend = \"0.0001\"\n");
    let agent = world.agent("a", "model = \"mine\"");
    let ran = world.run(&["run", &agent, "hi"]);
    ran.failed(3, "AOSK-K012").says("money (tenant local)");
    let listed = world.run(&["ps"]);
    assert!(listed.out.contains("blocked since"), "{listed:?}");
    world.configure("config.toml", "[tenants.local]\nquota.spend = \"1/day\"\n");
    assert_eq!(world.run(&["run", "--resume"]).code, Some(0));
}

#[test]
fn keys_of_a_file_that_others_may_read_are_refused() {
    let endpoint = Endpoint::new(|asked| Answer::Text(asked.authorization.replace("sk-", "")));
    let world = World::new();
    let keys = format!("OPENAI_API_KEY = \"{KEY}\"\nOPENAI_BASE_URL = \"{}\"\n", endpoint.url());
    world.configure("keys.toml", &keys);
    let path = world.config("keys.toml");
    let agent = world.agent("a", "");
    for (mode, accepted) in
        [(0o644, false), (0o640, false), (0o601, false), (0o600, true), (0o400, true)]
    {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        let ran = world.run(&["run", &agent, "hi"]);
        if accepted {
            assert_eq!(ran.code, Some(0), "{ran:?}");
        } else {
            ran.failed(2, "AOSK-C002").says("chmod 600").says(&format!("{mode:04o}"));
        }
        assert!(!ran.err.contains(KEY));
    }
    assert!(endpoint.asked().iter().all(|asked| asked.authorization == format!("Bearer {KEY}")));
}

#[test]
fn a_stored_key_does_not_leave_for_an_address_of_the_environment() {
    let endpoint = says("hello");
    let world = World::with(&endpoint);
    world.configure("keys.toml", &format!("OPENAI_API_KEY = \"{KEY}\"\n"));
    std::fs::set_permissions(world.config("keys.toml"), PermissionsExt::from_mode(0o600))
        .expect("mode");
    let agent = world.agent("a", "");
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    assert_eq!(endpoint.asked()[0].authorization, "");
}

#[test]
fn a_misspelt_name_in_the_file_of_keys_is_named_without_its_value() {
    let world = World::with(&says("hello"));
    let agent = world.agent("a", "");
    for (text, said) in [
        (format!("OPENAI_KEY = \"{KEY}\"\n"), "did you mean `OPENAI_API_KEY`?"),
        (format!("OPENAI_API_KEY = [\"{KEY}\"]\n"), "give a string"),
        (format!("OPENAI_API_KEY = {KEY}\n"), "keys.toml:1"),
    ] {
        world.configure("keys.toml", &text);
        std::fs::set_permissions(world.config("keys.toml"), PermissionsExt::from_mode(0o600))
            .expect("mode");
        let ran = world.run(&["run", &agent, "hi"]);
        ran.failed(2, "AOSK-C002").says(said);
        assert!(!ran.err.contains(KEY), "{ran:?}");
    }
}

#[test]
fn the_users_table_of_models_is_read_and_its_errors_have_lines() {
    let world = World::with(&says("hello"));
    world.configure(
        "models.toml",
        "[models.mine]\nprovider = \"local\"\nwindow = 9000\nmax_ouput = 1\n",
    );
    let agent = world.agent("a", "model = \"mine\"");
    let path = world.config("models.toml");
    world
        .run(&["run", &agent, "hi"])
        .failed(2, "AOSK-L009")
        .says(&format!("--> {}:4", path.display()))
        .says("max_output");
    world.configure(
        "models.toml",
        "[models.mine]\nprovider = \"local\"\nwindow = 9000\nmax_output = 100\nprice = { input = 1, output = 2 }\n",
    );
    assert_eq!(world.run(&["run", &agent, "hi"]).code, Some(0));
    let spent = world.show(&world.only_pid())["spent_microdollars"].as_u64().expect("a number");
    assert!(spent > 0, "its price is counted");
}
