"""Pages in browsers: which may call, and what they may read."""

PAGE = "https://console.shop.example"


async def test_a_page_of_the_list_may_call_and_read(run_edge) -> None:
    async with run_edge(cors_origins=[PAGE]) as running:
        asked = {
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": (
                "authorization,Content-Type, mcp-protocol-version, mcp-param-city, cookie, x-evil"
            ),
        }
        for path in ("/mcp", "/api/v1/tools"):
            answer = await running.http.options(path, headers=asked)
            assert answer.status_code == 204
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert answer.headers["vary"] == "Origin"
            assert "POST" in answer.headers["access-control-allow-methods"]
            assert answer.headers["access-control-allow-headers"] == (
                "authorization, content-type, mcp-protocol-version, mcp-param-city"
            )
            assert "access-control-allow-credentials" not in answer.headers
        read = await running.mcp("tools/list", headers={"origin": PAGE})
        assert read.status == 200
        assert read.headers["access-control-allow-origin"] == PAGE
        assert "Mcp-Session-Id" in read.headers["access-control-expose-headers"]
        refused = await running.rest("GET", "/api/v1/tools", role=None, headers={"origin": PAGE})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == PAGE  # the page may read why
        assert "access-control-allow-origin" not in (await running.rest("GET", "/api/v1/tools")).headers


async def test_other_pages_may_not(run_edge) -> None:
    async with run_edge(cors_origins=[PAGE]) as running:
        for origin in (
            "https://evil.example",
            "https://console.shop.example.evil.example",
            "http://console.shop.example",
            "https://console.shop.example:8443",
            "null",
        ):
            asked = {"origin": origin, "access-control-request-method": "POST"}
            preflight = await running.http.options("/mcp", headers=asked)
            assert preflight.status_code == 403, origin
            assert "access-control-allow-origin" not in preflight.headers
            assert (await running.mcp("tools/list", headers={"origin": origin})).status == 403
        # let in, since it is on the machine, but not on the list of those who read
        local = await running.rest("GET", "/api/v1/tools", headers={"origin": "http://localhost:3000"})
        assert local.status_code == 200
        assert "access-control-allow-origin" not in local.headers


async def test_credentials_go_to_named_pages_only(run_edge) -> None:
    async with run_edge(cors_origins=[PAGE], cors_credentials=True) as running:
        answer = await running.rest("GET", "/api/v1/tools", headers={"origin": PAGE})
        assert answer.headers["access-control-allow-credentials"] == "true"
    async with run_edge(cors_origins=["*"]) as running:
        answer = await running.rest("GET", "/api/v1/tools", headers={"origin": "https://anybody.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_an_options_that_is_no_preflight_is_no_way_in(run_edge) -> None:
    async with run_edge(cors_origins=[PAGE]) as running:
        assert (await running.http.options("/api/v1/tools", headers={"origin": PAGE})).status_code == 401
        assert (await running.http.options("/api/v1/tools")).status_code == 401
