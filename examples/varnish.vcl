# Varnish 7 in front of a Scoreboard's gateway: rankings from the cache, everything else passed on (docs/cdn.md).
# To adapt: the backend, the networks of the purgers, and the two times that say "as cdn.…".
#   cdn: {purge: {url: http://varnish.edge.svc/purge, form: Bearer, secretRef: {name: edge}}}
vcl 4.1;

import std;

backend podium {
    .host = "arcade-gateway.podium-demo.svc";
    .port = "80";
    .connect_timeout = 1s;
    .first_byte_timeout = 10s;
    .between_bytes_timeout = 60s;   # event streams are silent for 25 s at most
}

# From where a purge may come: the pods of the projector.
acl purgers {
    "127.0.0.0"/8;
    "10.0.0.0"/8;
    "172.16.0.0"/12;
    "192.168.0.0"/16;
}

sub vcl_recv {
    unset req.http.X-Try;
    if (req.url == "/purge") {
        call purge_board;
    }
    if (req.url ~ "^/ws/") {
        return (pipe);
    }
    if ((req.method != "GET" && req.method != "HEAD")
        || req.url !~ "^/api/v1/scoreboard(/seasons(/[0-9]+)?)?(\?|$)") {
        return (pass);
    }
    # Rankings depend on the path and the query alone, whoever asks.
    unset req.http.Authorization;
    unset req.http.Cookie;
    set req.url = std.querysort(req.url);
    if (req.restarts == 0) {
        set req.http.X-Try = "first";
        set req.grace = 5s;         # as cdn.staleWhileRevalidate
    } else {
        set req.http.X-Try = "second";
        set req.grace = 365d;       # the origin has failed: whatever is kept for that
    }
    return (hash);
}

sub purge_board {
    if (req.method != "POST" || client.ip !~ purgers
        || req.http.Authorization != "Bearer " + regsub(std.fileread("/etc/varnish/podium-token"), "\s+$", "")) {
        return (synth(403));
    }
    if (req.http.Surrogate-Key !~ "^[a-z0-9-]+$") {
        return (synth(400));
    }
    if (!std.ban("obj.http.Surrogate-Key ~ (^|\s)" + req.http.Surrogate-Key + "(\s|$)")) {
        return (synth(500, "not banned"));
    }
    return (synth(200, "purged"));
}

sub vcl_pipe {
    if (req.http.Upgrade) {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = req.http.Connection;
    }
}

sub vcl_backend_response {
    if (bereq.uncacheable) {
        return (deliver);
    }
    if (beresp.status >= 500 || beresp.status == 429) {
        if (bereq.is_bgfetch || bereq.http.X-Try == "first") {
            return (abandon);       # an answer, even one that is not kept, would take the place of what is there
        }
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;        # else Varnish would stop coalescing for two minutes
        set beresp.grace = 0s;
        return (deliver);
    }
    # s-maxage and stale-while-revalidate are Varnish's own; the third time is how long an object is of use at all.
    if (beresp.http.Cache-Control ~ "stale-if-error=[0-9]+") {
        set beresp.grace = std.duration(
            regsub(beresp.http.Cache-Control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 60s);
    }
    set beresp.keep = 10m;          # asked for again with its ETag
}

sub vcl_backend_error {
    if (bereq.is_bgfetch || bereq.http.X-Try == "first") {
        return (abandon);
    }
    set beresp.http.Content-Type = "application/problem+json";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Retry-After = "1";
    set beresp.body = {"{"type":"https://podium.dev/problems/dependency-unavailable",
"title":"A dependency is unavailable","detail":"the origin does not answer","status":503}"};
    return (deliver);
}

sub vcl_deliver {
    unset resp.http.Surrogate-Key;
    unset resp.http.Cache-Tag;
    if (obj.hits > 0) {
        set resp.http.X-Cache = "hit";
    } else {
        set resp.http.X-Cache = "miss";
    }
}

sub vcl_synth {
    if (req.http.X-Try == "first" && resp.status == 503) {
        return (restart);           # stale-if-error: look again, for what would else be too old
    }
}
