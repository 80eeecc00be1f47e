"""The table of secrets with a known form: how each begins and continues.

Prefixes, lengths and alphabets are facts of the vendors' documentation, compared with the public rule list
of gitleaks (2026-11); no expression was copied. A body may be shorter than documented, because texts are
cut: then it must look random, and so must every body whose prefix also begins ordinary words.
"""

from __future__ import annotations

from typing import NamedTuple

#: Alphabets, as the inside of a character class.
_AN = "A-Za-z0-9"
_WORD = "A-Za-z0-9_"
_URL = "A-Za-z0-9_-"
_HEX = "A-Fa-f0-9"
_LOW = "a-z0-9"


class SecretKind(NamedTuple):
    """Secrets of one form: `head` (an expression without groups), then at least `least` of `body`."""

    name: str
    head: str
    body: str = _AN
    least: int = 20
    #: Documented length of the body, 0 if it varies; a body broken over two lines is joined up to it.
    full: int = 0
    #: What may follow the body (an expression).
    tail: str = ""
    #: The head also begins ordinary words: the body must look random, or hold a long word with digits.
    is_doubtful: bool = False
    #: For a head without a fixed beginning: characters that every match contains.
    part: str = ""


KINDS: tuple[SecretKind, ...] = (
    # --- models
    SecretKind("anthropic-key", r"sk-ant-", _URL, 12, 101),
    SecretKind("openai-key", r"sk-(?:proj|svcacct|admin|None)-", _URL, 16, 156),
    SecretKind("openrouter-key", r"sk-or-(?:v1-)?", _AN, 16, 64),
    SecretKind("langfuse-key", r"sk-lf-", _URL, 16, 36),
    SecretKind("openai-key", r"sk-", _URL, 16, 48, is_doubtful=True),
    SecretKind("groq-key", r"gsk_", _AN, 16, 52),
    SecretKind("xai-key", r"xai-", _AN, 16, 80),
    SecretKind("perplexity-key", r"pplx-", _AN, 16, 48),
    SecretKind("huggingface-token", r"(?:hf|api_org)_", _AN, 16, 34, is_doubtful=True),
    SecretKind("replicate-token", r"r8_", _AN, 16, 37),
    SecretKind("langsmith-key", r"lsv2_(?:pt|sk)_", _WORD, 16, 43),
    SecretKind("langsmith-key", r"ls__", _AN, 16, 32),
    SecretKind("pinecone-key", r"pcsk_", _WORD, 20, 70),
    SecretKind("google-api-key", r"AIza", _URL, 20, 35),
    SecretKind("google-api-key", r"AQ\.[A-Z][A-Za-z0-9]", _URL, 14, 48, is_doubtful=True),
    SecretKind("nvidia-key", r"nvapi-", _URL, 20, 64),
    SecretKind("voyage-key", r"pa-", _URL, 30, 43, is_doubtful=True),
    SecretKind("fireworks-key", r"fw_", _AN, 20, 24, is_doubtful=True),
    SecretKind("cerebras-key", r"csk-", _AN, 20, 48),
    SecretKind("tavily-key", r"tvly-", _URL, 16, 36),
    SecretKind("firecrawl-key", r"fc-", _HEX, 24, 32),
    SecretKind("jina-key", r"jina_", _URL, 30, 60),
    SecretKind("e2b-key", r"e2b_", _HEX, 30, 40),
    SecretKind("runpod-key", r"rpa_", _AN, 24, 40),
    SecretKind("modal-token", r"a[ks]-", _AN, 20, 22, is_doubtful=True),
    SecretKind("braintrust-key", r"bt-st-", _AN, 20, 48),
    # --- code and packages
    SecretKind("github-token", r"gh[pousr]_", _WORD, 16, 36),
    SecretKind("github-token", r"github_pat_", _WORD, 16, 82),
    SecretKind("gitlab-token", r"gl(?:pat|rt|dt|ft|cbt|ptt|soat|imt|agent|oas|ffct|rtr|wt)-", r"A-Za-z0-9_.-", 16, 20),
    SecretKind("gitlab-token", r"GR1348941", _URL, 16, 20),
    SecretKind("bitbucket-token", r"AT(?:BB|CTT3xFf)", r"A-Za-z0-9=_-", 20, 32, is_doubtful=True),
    SecretKind("atlassian-token", r"AT(?:ATT|CTT|STT|OA)3", r"A-Za-z0-9=_-", 20, 186),
    SecretKind("npm-token", r"npm_", _AN, 20, 36, is_doubtful=True),
    SecretKind("pypi-token", r"pypi-", _URL, 24, 160, is_doubtful=True),
    SecretKind("rubygems-key", r"rubygems_", _HEX, 24, 48),
    SecretKind("crates-token", r"cio", _AN, 28, 32, is_doubtful=True),
    SecretKind("nuget-key", r"oy2", _LOW, 40, 43, is_doubtful=True),
    SecretKind("clojars-token", r"CLOJARS_", _AN, 40, 60),
    SecretKind("docker-token", r"dckr_(?:pat|oat)_", _URL, 16, 27),
    SecretKind("artifactory-token", r"AKCp", _AN, 50, 69),
    SecretKind("artifactory-token", r"cmVmd", _AN, 50, 59),
    SecretKind("sourcegraph-token", r"sg[pd]_(?:(?:[a-fA-F0-9]{16}|local)_)?", _HEX, 30, 40),
    SecretKind("sonar-token", r"sq[upa]_", _HEX, 30, 40),
    SecretKind("circleci-token", r"CCIP(?:AT|RJ)_", _WORD, 30, 70),
    SecretKind("buildkite-token", r"bk[uc]a_", _HEX, 30, 40),
    SecretKind("octopus-key", r"API-", "A-Z0-9", 24, 26, is_doubtful=True),
    SecretKind("harness-token", r"[ps]at\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.", _AN, 16, 20),
    SecretKind("postman-key", r"PMAK-", r"a-fA-F0-9-", 30, 59),
    SecretKind("jetbrains-token", r"perm:", r"A-Za-z0-9+/=.", 40, 0, is_doubtful=True),
    SecretKind("infracost-key", r"ico-", _AN, 28, 32, is_doubtful=True),
    # --- clouds and hosting
    SecretKind("aws-key-id", r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])", "A-Z0-9", 12, 16),
    SecretKind(
        "aws-secret-key",
        r"(?=[A-Za-z0-9]*[/+])",
        r"A-Za-z0-9/+",
        40,
        40,
        r"(?![A-Za-z0-9/+=_.-])",
        is_doubtful=True,
        part="/",
    ),
    SecretKind(
        "aws-secret-key",
        r"(?=[A-Za-z0-9]*[/+])",
        r"A-Za-z0-9/+",
        40,
        40,
        r"(?![A-Za-z0-9/+=_.-])",
        is_doubtful=True,
        part="+",
    ),
    SecretKind("aws-session-token", r"(?:IQoJb3JpZ2lu|F[wQ]oGZXIvYXdz)", r"A-Za-z0-9+/=%", 40, 0),
    SecretKind("aws-bedrock-key", r"(?:ABSK|bedrock-api-key-)", r"A-Za-z0-9+/=", 40, 128),
    SecretKind("gcp-token", r"ya29\.", r"A-Za-z0-9_.-", 16, 0),
    SecretKind("gcp-oauth-secret", r"GOCSPX-", _URL, 16, 28),
    SecretKind("gcp-refresh-token", r"1//0", _URL, 24, 0),
    SecretKind("firebase-key", r"AAAA[A-Za-z0-9_-]{7}:APA91b", _URL, 40, 134),
    SecretKind("azure-client-secret", r"[A-Za-z0-9_~.]{3}\dQ~", r"A-Za-z0-9_~.-", 24, 34, part="Q~"),
    SecretKind("azure-key", r"[A-Za-z0-9+/]{32,76}JQQJ9", r"A-Za-z0-9+/", 4, 0, r"={0,2}", part="JQQJ9"),
    SecretKind("azure-key", r"[A-Za-z0-9+/]{32,76}AZDO", r"A-Za-z0-9+/", 4, 0, r"={0,2}", part="AZDO"),
    SecretKind("azure-key", r"[A-Za-z0-9+/]{32,76}\+ASt", r"A-Za-z0-9+/", 4, 0, r"={0,2}", part="+ASt"),
    SecretKind("azure-key", r"[A-Za-z0-9+/]{32,76}ACDb", r"A-Za-z0-9+/", 4, 0, r"={0,2}", part="ACDb"),
    SecretKind("alibaba-key-id", r"LTAI", _AN, 12, 20),
    SecretKind("tencent-key-id", r"AKID", _AN, 24, 32),
    SecretKind("yandex-key", r"AQVN", _URL, 30, 36),
    SecretKind("yandex-token", r"(?:t1\.|y[0-3]_)", r"A-Za-z0-9_.=-", 30, 0, is_doubtful=True),
    SecretKind("yandex-key", r"YC[A-Z]", _URL, 34, 37, is_doubtful=True),
    SecretKind("digitalocean-token", r"do[opr]_v1_", _HEX, 24, 64),
    SecretKind("heroku-key", r"HRKU-", _URL, 20, 60),
    SecretKind("fly-token", r"fo1_", _URL, 16, 43),
    SecretKind("fly-token", r"fm(?:1[ar]|2)_", r"A-Za-z0-9+/=", 30, 0),
    SecretKind("render-key", r"rnd_", _AN, 16, 32, is_doubtful=True),
    SecretKind("vercel-token", r"vc[pkiar]_", _AN, 20, 56),
    SecretKind("netlify-token", r"nf[pcoub]_", _AN, 16, 36),
    SecretKind("cloudflare-key", r"v1\.0-", r"a-f0-9-", 60, 171),
    SecretKind("cloudflare-token", r"cf(?:ut|at|k)_", _URL, 30, 53),
    SecretKind("supabase-key", r"(?:sbp_(?:oauth_)?|sb_secret_)", _URL, 16, 40),
    SecretKind("neon-key", r"napi_", _AN, 30, 64),
    SecretKind("planetscale-token", r"pscale_(?:pw|tkn|oauth|app_secret)_", r"A-Za-z0-9_=.-", 16, 43),
    SecretKind("databricks-token", r"d(?:api|kea|ose|sapi)", _HEX, 28, 32, r"(?:-\d)?"),
    SecretKind("snowflake-token", r"ver:\d-hint:\d{1,20}-ETMs", r"A-Za-z0-9+/=_%-", 24, 0),
    SecretKind("scaleway-key", r"SCW", "A-Z0-9", 17, 17),
    SecretKind("scalingo-token", r"tk-us-", _URL, 30, 48),
    SecretKind("clickhouse-key", r"4b1d", _AN, 38, 38),
    SecretKind("prefect-key", r"pn[ub]_", _AN, 30, 36),
    SecretKind("tailscale-key", r"tskey-[a-z]{3,12}-", _URL, 16, 0),
    SecretKind("openshift-token", r"sha256~", _URL, 30, 43),
    # --- secret stores
    SecretKind("vault-token", r"hv[sbr]\.", _URL, 16, 95),
    SecretKind("vault-token", r"s\.", _AN, 24, 24, is_doubtful=True),
    SecretKind("terraform-token", r"[A-Za-z0-9]{14}\.atlasv1\.", r"A-Za-z0-9=_-", 20, 67, part=".atlasv1."),
    SecretKind("pulumi-token", r"pul-", _HEX, 30, 40),
    SecretKind("doppler-token", r"dp\.(?:pt|st|ct|sa|scim|audit|said)\.(?:[a-z0-9_-]{2,35}\.)?", _AN, 16, 43),
    SecretKind("infisical-token", r"st\.[a-f0-9-]{20,40}\.[a-f0-9]{20,64}\.", _HEX, 20, 32),
    SecretKind("1password-token", r"ops_eyJ", r"A-Za-z0-9+/=_-", 20, 0),
    SecretKind("1password-key", r"A3-[A-Z0-9]{6}-", "A-Z0-9-", 20, 23),
    SecretKind("age-key", r"AGE-SECRET-KEY-(?:PQ-)?1", "A-Z0-9", 20, 58),
    # --- work
    SecretKind("slack-token", r"xoxe\.xox[bp]-", _URL, 12, 165),
    SecretKind("slack-token", r"xox[abcdeoprs]-", _URL, 10, 0),
    SecretKind("slack-token", r"xapp-\d-", _URL, 10, 0),
    SecretKind("telegram-token", r"(?:bot)?\d{6,12}:A[A-Za-z]", _URL, 28, 33, part=":A"),
    SecretKind("discord-token", r"mfa\.", _URL, 24, 84),
    SecretKind("discord-token", r"[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{5,7}\.", _URL, 24, 38, part="."),
    SecretKind("notion-token", r"ntn_", _AN, 20, 46),
    SecretKind("notion-token", r"secret_", _AN, 20, 43, is_doubtful=True),
    SecretKind("figma-token", r"fig[dour]h?_", _URL, 16, 40, is_doubtful=True),
    SecretKind("airtable-token", r"pat[A-Za-z0-9]{14}\.", _AN, 20, 64),
    SecretKind("asana-token", r"[012]/\d{12,20}(?:/\d{12,20})?:", _HEX, 20, 32),
    SecretKind("linear-key", r"lin_(?:api|oauth|wh)_", _AN, 16, 40),
    SecretKind("clickup-token", r"pk_\d{5,10}_", "A-Z0-9", 20, 32),
    SecretKind("trello-key", r"ATTA", _HEX, 40, 72),
    SecretKind("contentful-token", r"CFPAT-", _URL, 24, 43),
    SecretKind("hubspot-token", r"pat-[a-z]{2}\d-", r"a-f0-9-", 20, 36),
    SecretKind("intercom-token", r"dG9r", r"A-Za-z0-9=_-", 40, 56, is_doubtful=True),
    SecretKind("typeform-token", r"tfp_", r"A-Za-z0-9_.=-", 30, 59),
    SecretKind("readme-key", r"rdme_", _LOW, 30, 70),
    SecretKind("dropbox-token", r"sl\.(?:u\.)?", _URL, 60, 130),
    SecretKind("facebook-token", r"EAA[A-Za-z]", _AN, 60, 0, is_doubtful=True),
    SecretKind("twitch-token", r"oauth:", _LOW, 28, 30, is_doubtful=True),
    SecretKind("twitter-token", r"AAAAAAAAAAAAAAAAAA", r"A-Za-z0-9%", 60, 92, is_doubtful=True),
    SecretKind("mapbox-token", r"[st]k\.eyJ", r"A-Za-z0-9_.-", 40, 0),
    # --- money
    SecretKind("stripe-key", r"[srp]k_(?:live|test|prod)_", _AN, 8, 99),
    SecretKind("webhook-secret", r"whsec_", r"A-Za-z0-9+/=_-", 12, 44),
    SecretKind("cookie", r"gitlab_session=", _LOW, 24, 32),
    SecretKind("frameio-token", r"fio-u-", _URL, 30, 64),
    SecretKind("adobe-secret", r"p8e-", _AN, 24, 32, is_doubtful=True),
    SecretKind("settlemint-token", r"sm_[aps]at_", _AN, 16, 16, is_doubtful=True),
    SecretKind("intra42-secret", r"s-s4t2(?:ud|af)-", _HEX, 32, 64),
    SecretKind("maxmind-key", r"(?=[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk)", _WORD, 40, 40, part="_mmk"),
    SecretKind(
        "authress-key",
        r"(?:sc|ext|scauth|authress)_(?=[a-zA-Z0-9]{5,30}\.[a-zA-Z0-9]{4,6}\.acc[_-])",
        r"A-Za-z0-9._+/=-",
        40,
        0,
    ),
    SecretKind("square-token", r"sq0(?:atp|csp|idp)-", _URL, 16, 43),
    SecretKind("square-token", r"EAAA[A-Za-z0-9]", _URL, 40, 60, is_doubtful=True),
    SecretKind("shopify-token", r"shp(?:at|ca|pa|ss|ua|tka|ref|it)_", _AN, 20, 32),
    SecretKind("braintree-token", r"access_token\$(?:production|sandbox)\$[a-z0-9]{10,20}\$", _HEX, 20, 32),
    SecretKind("paypal-token", r"A21AA", _URL, 40, 90, is_doubtful=True),
    SecretKind("plaid-token", r"access-(?:sandbox|development|production)-", r"a-f0-9-", 24, 36),
    SecretKind("razorpay-key", r"rzp_(?:live|test)_", _AN, 10, 14),
    SecretKind("flutterwave-key", r"FLW(?:SEC|PUB)K(?:_TEST)?-", r"a-zA-Z0-9-", 12, 34),
    SecretKind("paddle-key", r"pdl_(?:live|sdbx)_apikey_", _WORD, 20, 49),
    SecretKind("duffel-token", r"duffel_(?:test|live)_", r"A-Za-z0-9_=-", 24, 43),
    SecretKind("shippo-token", r"shippo_(?:live|test)_", _HEX, 24, 40),
    SecretKind("easypost-key", r"EZ[AT]K", _AN, 40, 54),
    # --- mail and telephony
    SecretKind("mailgun-key", r"key-", _HEX, 28, 32),
    SecretKind("mailchimp-key", r"(?=[a-f0-9]{32}-us\d)", r"a-f0-9", 32, 32, r"-us\d{1,2}", part="-us"),
    SecretKind("sendgrid-key", r"SG\.", r"A-Za-z0-9_.-", 16, 66, is_doubtful=True),
    SecretKind("resend-key", r"re_[A-Za-z0-9]{3,12}_", _AN, 12, 24, is_doubtful=True),
    SecretKind("brevo-key", r"x(?:key|smtp)sib-", r"A-Za-z0-9-", 24, 81),
    SecretKind("twilio-key", r"(?:SK|AC)", _HEX, 32, 32),
    SecretKind("facebook-secret", r"IGQ[A-Z]", _AN, 60, 0),
    # --- monitoring
    SecretKind("sentry-token", r"sntry[su]_", r"A-Za-z0-9+/=_", 20, 0),
    SecretKind("newrelic-key", r"NR(?:AK|AA|II|IQ|JS|RA|BR)-", r"A-Za-z0-9-", 16, 27),
    SecretKind("newrelic-key", r"(?=[a-f0-9]{36}NRAL)", r"a-f0-9", 36, 36, r"NRAL", part="NRAL"),
    SecretKind("jwt", r"eyJ[A-Za-z0-9_-]{6,}+\.", _URL, 6, 0, r"(?:\.[A-Za-z0-9_-]*+){0,3}"),
    SecretKind("grafana-token", r"gl(?:sa|c)_", r"A-Za-z0-9+/=_", 20, 41),
    SecretKind("grafana-token", r"eyJrIjoi", r"A-Za-z0-9+/=", 40, 0),
    SecretKind("posthog-key", r"ph[cxsr]_", _AN, 20, 43),
    SecretKind("honeycomb-key", r"hc[abc][ilm]k_", _AN, 24, 58),
    SecretKind("dynatrace-token", r"dt0[cs]\d\d\.[A-Za-z0-9]{8,24}\.", _AN, 20, 64),
    SecretKind("logfire-token", r"pylf_v\d_(?:[a-z]{2}_)?", _AN, 20, 43),
    SecretKind("axiom-token", r"xa[ap]t-", r"a-f0-9-", 24, 36),
    SecretKind("launchdarkly-key", r"(?:sdk|mob|api)-(?=[a-f0-9]{8}-[a-f0-9]{4}-)", r"a-f0-9-", 24, 36),
    SecretKind("elastic-token", r"essu_", r"A-Za-z0-9+/=", 24, 0),
    # --- keys of any vendor, without their first line or encoded in base64
    SecretKind("private-key", r"b3BlbnNzaC1rZXktdjE", r"A-Za-z0-9+/=", 20, 0),
    SecretKind("private-key", r"LS0tLS1CRUdJTiB(?:SU0Eg|QUklW|FQyB|PUEVO|FTkNS|EU0Eg)", r"A-Za-z0-9+/=", 20, 0),
    SecretKind(
        "password-hash",
        r"\$(?:2[abxy]|argon2(?:id|i|d)|[156y]|apr1|scrypt|pbkdf2[a-z0-9-]*)\$",
        r"A-Za-z0-9./$=,+",
        22,
        0,
        part="$",
    ),
    SecretKind("spanpost-token", r"spt_", _URL, 12, 43),
)
