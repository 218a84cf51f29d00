/* config: the tables against config.example, and what a person is told about each mistake. */
#include "buf.h"
#include "record/parse.h"
#include "run/config.h"
#include "run/config_rules.h"
#include "run/units.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* All that a flow needs; stories about something else build on it. */
#define FLOW              "name = \"a\"; files = [ \"/a\" ]; stream = \"s\"; "
#define FLOWS             "flows = ( { " FLOW "} );\n"
#define REGION            "region = \"eu-west-1\";\n"
#define IN_FLOW(settings) REGION "flows = ( { " FLOW settings "} );"
#define IN_FIREHOSE(settings)                                                                      \
    REGION "flows = ( { name = \"a\"; files = [ \"/a\" ]; delivery_stream = \"d\"; " settings "} " \
           ");"

/* Groups without names have them from `fields`. */
#define REGEX_FLOW                                                                                 \
    "name = \"c\"; files = [ \"/c\" ]; stream = \"s\"; "                                           \
    "parse = { regex = \"(a)(?:b)\"; fields = [ \"x\" ]; }; "

/* --- stories of mistakes: the input, and one mistake that must be told --------------------- */

static const struct story {
    const char *input;
    unsigned line;
    const char *key, *part;
    size_t count; /* how many mistakes in all; 0: one */
} stories[] = {
    /* syntax, and what libconfig would not notice */
    {REGION FLOWS "\nlanes = = 1;", 4, "", "syntax error", 0},
    {REGION REGION FLOWS, 2, "", "duplicate setting name", 0},
    {REGION FLOWS "/* never\nclosed", 3, "", "comment is never closed", 0},
    {REGION FLOWS "\n\"never closed", 4, "", "text is never closed", 0},
    {REGION "lanes = 4294967297;\n" FLOWS, 2, "lanes", "4294967297 is out of range", 0},
    {REGION "lanes = 0x100000001;\n" FLOWS, 2, "lanes", "4294967297 is out of range", 0},
    {"region = \"a\\x00b\";\n" FLOWS, 1, "", "zero byte", 0},
    {REGION "((((((((((((((((((((", 2, "", "brackets are open", 0},
    {REGION "@include \"other\"\n" FLOWS, 2, "", "cannot be included here", 0},
    {REGION "lanes = 1; @include \"other\"\n" FLOWS, 2, "", "beginning of a line", 0},
    {REGION FLOWS "@import", 3, "", "@ is not understood", 0},

    /* names */
    {"regoin = \"eu-west-1\";\n" FLOWS, 1, "regoin", "did you mean 'region'?", 2},
    {REGION "flow = ( { " FLOW "} );", 2, "flow", "did you mean 'flows'?", 0},
    {REGION "stream = \"s\";\n" FLOWS, 2, "stream", "into a flow", 0},
    {REGION "flows = ( { " FLOW "lanes = 1; } );", 2, "flows[0].lanes", "outside of flows", 0},
    {REGION "flows = ( { " FLOW "lingre = \"1s\"; } );", 2, "flows[0].lingre", "'batch.linger'", 0},
    {REGION "flows = (\n{ " FLOW "\nbatch = { record = 1; } } );", 4, "flows[0].batch.record",
     "did you mean 'batch.records'?", 0},
    {REGION "spool = { limit = \"much\"; };\n" FLOWS, 2, "spool.limit", "not a size", 0},
    {REGION "spool = { when_full = \"drop\"; };\n" FLOWS, 2, "spool.when_full", "drop_oldest", 0},
    {REGION "spool = { patience = \"2 days\"; };\n" FLOWS, 2, "spool.patience", "", 0},
    {REGION "memory_limit = \"1MiB\";\n" FLOWS, 2, "memory_limit", "", 0},
    {REGION "endpoint = { kms = \"https://x\"; };\n" FLOWS, 2, "endpoint.kms", "is not a setting",
     0},

    /* types */
    {REGION "lanes = \"1\";\n" FLOWS, 2, "lanes", "whole number, without quotes", 0},
    {REGION "lanes = 1.0;\n" FLOWS, 2, "lanes", "whole number", 0},
    {REGION "lanes = true;\n" FLOWS, 2, "lanes", "whole number", 0},
    {REGION "state_dir = 5;\n" FLOWS, 2, "state_dir", "a text in quotes", 0},
    {REGION "log = \"info\";\n" FLOWS, 2, "log", "write a group", 0},
    {REGION "flows = { " FLOW "};", 2, "flows", "write a list of flows", 0},
    {REGION "flows = ( 7 );", 2, "flows[0]", "is not a flow", 0},
    {REGION "flows = ( { name = \"a\"; stream = \"s\"; files = \"/a\"; } );", 2, "flows[0].files",
     "a list of texts", 0},
    {REGION "flows = ( { name = \"a\"; stream = \"s\"; files = [ 1 ]; } );", 2, "flows[0].files[0]",
     "in quotes", 0},
    {REGION "flows = ( { " FLOW "newline = \"true\"; } );", 2, "flows[0].newline", "true or false",
     0},
    {REGION "flows = ( { " FLOW "newline = 1; } );", 2, "flows[0].newline", "true or false", 0},
    {REGION "flows = ( { " FLOW "from = true; } );", 2, "flows[0].from",
     "from = \"end\" or \"start\"", 0},

    /* ranges and units */
    {REGION "lanes = 2;\n" FLOWS, 2, "lanes", "runs one lane; set lanes = 1", 0},
    {REGION "lanes = 0;\n" FLOWS, 2, "lanes", "0 is out of range; give a value from 1", 0},
    {REGION "lanes = -4294967295;\n" FLOWS, 2, "lanes", "-4294967295 is negative", 0},
    {REGION "lanes = -1;\n" FLOWS, 2, "lanes", "-1 is negative", 0},
    {REGION "lanes = 99999999999999999999L;\n" FLOWS, 2, "lanes", "out of range", 0},
    {REGION "drain_timeout = 10;\n" FLOWS, 2, "drain_timeout", "has no unit; write \"10s\"", 0},
    {REGION "drain_timeout = \"10\";\n" FLOWS, 2, "drain_timeout", "'10' is not a time", 0},
    {REGION "drain_timeout = \"0.5ms\";\n" FLOWS, 2, "drain_timeout", "not a whole number", 0},
    {REGION "flows = ( { " FLOW "batch = { records = 501; }; } );", 2, "flows[0].batch.records",
     "501 is out of range; give a value from 1 to 500", 0},
    {REGION "flows = ( { " FLOW "batch = { bytes = \"64KiB\"; }; } );", 2, "flows[0].batch.bytes",
     "from 1MiB to 10MiB", 0},
    {REGION "flows = ( { " FLOW "batch = { bytes = \"2M\"; }; } );", 2, "flows[0].batch.bytes",
     "'2M' is not a size", 0},
    {REGION "flows = ( { " FLOW "batch = { linger = \"16m\"; }; } );", 2, "flows[0].batch.linger",
     "from 0s to 15m", 0},
    {REGION "flows = ( { " FLOW "max_in_flight = 65; } );", 2, "flows[0].max_in_flight",
     "from 1 to 64", 0},
    {REGION "flows = ( { " FLOW "from = \"middle\"; } );", 2, "flows[0].from",
     "'middle' is not known here; write \"end\" or \"start\"", 0},
    {REGION "log = { level = \"loud\"; };\n" FLOWS, 2, "log.level",
     "\"error\", \"warning\", \"info\" or \"debug\"", 0},

    /* what is missing or double */
    {FLOWS, 0, "region", "is missing; add region", 0},
    {REGION, 0, "flows", "nothing would be sent", 0},
    {"region = \"X\";", 0, "flows", "nothing would be sent", 2},
    {REGION "flows = ( );", 0, "flows", "nothing would be sent", 0},
    {REGION "flows = (\n{ files = [ \"/a\" ]; stream = \"s\"; } );", 3, "flows[0].name",
     "is missing from this flow", 0},
    {REGION "flows = ( { name = \"a\"; stream = \"s\"; } );", 2, "flows[0].files", "is missing", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a\" ]; } );", 2, "flows[0].stream",
     "is missing", 0},
    {REGION "flows = ( { name = \"a\"; files = [ ]; stream = \"s\"; } );", 2, "flows[0].files",
     "the list is empty", 0},
    {REGION "flows = ( { " FLOW "},\n{ " FLOW "} );", 3, "flows[1].name",
     "is the name of the flow at test.conf:2 already", 0},
    {REGION "flows = ( { " FLOW
            "\nstream_arn = \"arn:aws:kinesis:eu-west-1:123456789012:stream/s\"; } );",
     3, "flows[0].stream_arn", "beside stream", 0},
    {REGION "credentials = { access_key_id = \"AKID\"; };\n" FLOWS, 2, "credentials.access_key_id",
     "without its secret", 0},
    {REGION "credentials = { secret_access_key = \"x\"; };\n" FLOWS, 2,
     "credentials.secret_access_key", "without its id", 0},
    {REGION "credentials = { session_token = \"x\"; };\n" FLOWS, 2, "credentials.session_token",
     "without a key", 0},

    /* texts */
    {"region = \"\";\n" FLOWS, 1, "region", "is empty", 0},
    {"region = \"EU West\";\n" FLOWS, 1, "region", "'EU West' is not a region", 0},
    {REGION "state_dir = \"var\";\n" FLOWS, 2, "state_dir", "relative path", 0},
    {REGION "tls = { ca_file = \"ca.pem\"; };\n" FLOWS, 2, "tls.ca_file", "relative path", 0},
    {REGION "tls = { ca_file = \"/nowhere/ca\"; };\n" FLOWS, 2, "tls.ca_file", "be found", 0},
    {REGION "tls = { ca_file = \"/tmp\"; };\n" FLOWS, 2, "tls.ca_file", "is not a file", 0},
    {REGION "credentials = { access_key_id = \"AK ID\"; secret_access_key = \"x\"; };\n" FLOWS, 2,
     "credentials.access_key_id", "'AK ID' is not an access key id", 0},
    {REGION "credentials = { access_key_id = \"A\"; secret_access_key = \"hush \"; };\n" FLOWS, 2,
     "credentials.secret_access_key", "the value has blanks", 0},
    {REGION "proxy = { url = \"socks5://p:1080\"; };\n" FLOWS, 2, "proxy.url",
     "'socks5://p:1080' is no proxy that kinetail speaks with", 0},
    {REGION "proxy = { url = \"http://me:hush@p\"; };\n" FLOWS, 2, "proxy.url",
     "the value has no port", 0},
    {REGION "proxy = { no_proxy = \"a:443\"; };\n" FLOWS, 2, "proxy.no_proxy", "'a:443' has a port",
     0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a\", \"b\" ]; stream = \"s\"; } );", 2,
     "flows[0].files[1]", "'b' is a relative path", 0},
    {REGION "flows = ( { name = \"a\"; stream = \"s\"; files = [\n\"/a\",\n\"b\"\n]; } );", 4,
     "flows[0].files[1]", "'b' is a relative path", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a/\" ]; stream = \"s\"; } );", 2,
     "flows[0].files[0]", "names a directory", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a[b\" ]; stream = \"s\"; } );", 2,
     "flows[0].files[0]", "[ without its ]", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a{b\" ]; stream = \"s\"; } );", 2,
     "flows[0].files[0]", "{ without its }", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a**/b\" ]; stream = \"s\"; } );", 2,
     "flows[0].files[0]", "** inside a name", 0},
    {REGION "flows = ( { " FLOW "exclude = ( \"*.gz\", \"a]\" ); } );", 2, "flows[0].exclude[1]",
     "] without its [", 0},
    {REGION "flows = ( { " FLOW "exclude = ( \"\" ); } );", 2, "flows[0].exclude[0]", "is empty",
     0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a\" ]; stream = \"a b\"; } );", 2,
     "flows[0].stream", "not a stream's name", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a\" ]; stream_arn = \"arn:aws:s3:::x\"; } );",
     2, "flows[0].stream_arn", "is not the ARN of a Kinesis stream", 0},
    {REGION "flows = ( { name = \"a\"; files = [ \"/a\" ]; "
            "stream_arn = \"arn:aws:kinesis:us-east-1:123456789012:stream/s\"; } );",
     2, "flows[0].stream_arn", "another region", 0},
    {REGION "flows = ( { " FLOW "key = \"sorted\"; } );", 2, "flows[0].key", "\"const:TEXT\"", 0},
    {REGION "flows = ( { " FLOW "key = \"const:\"; } );", 2, "flows[0].key", "no text after", 0},
    {REGION "flows = ( { " FLOW "key = \"const:\\xFF\"; } );", 2, "flows[0].key", "UTF-8", 0},

    /* where to */
    {IN_FLOW("\ndelivery_stream = \"d\";"), 3, "flows[0].delivery_stream",
     "beside a Kinesis stream", 0},
    {IN_FLOW("\ndelivery_stream = \"a b\";"), 3, "flows[0].delivery_stream",
     "not a delivery stream's name", 2},
    {IN_FLOW("\ndelivery_stream = "
             "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\";"),
     3, "flows[0].delivery_stream", "at most 64", 2},
    {IN_FLOW("\ndelivery_stream = \"arn:aws:firehose:eu-west-1:123456789012:deliverystream/d\";"),
     3, "flows[0].delivery_stream", "is an ARN", 2},

    /* lines and events */
    {IN_FLOW("encoding = \"utf-16\";"), 2, "flows[0].encoding",
     "\"utf-8\", \"utf-16le\", \"utf-16be\" or \"latin1\"", 0},
    {IN_FLOW("skip_header_lines = 1001;"), 2, "flows[0].skip_header_lines", "from 0 to 1000", 0},
    {IN_FLOW("multiline = { timeout = \"5s\"; };"), 2, "flows[0].multiline.timeout",
     "without a pattern", 0},
    {IN_FLOW("multiline = { max_lines = 10; };"), 2, "flows[0].multiline.max_lines",
     "without a pattern", 0},
    {IN_FLOW("multiline = {\nmax_bytes = 2000; };"), 3, "flows[0].multiline.max_bytes",
     "without a pattern", 0},
    {IN_FLOW("multiline = { strat = \"^a\"; };"), 2, "flows[0].multiline.strat",
     "did you mean 'multiline.start'?", 0},
    {IN_FLOW("multiline = \"^a\";"), 2, "flows[0].multiline", "write a group", 0},
    {IN_FLOW("multiline = { start = \"\"; };"), 2, "flows[0].multiline.start", "is empty", 0},
    {IN_FLOW("multiline = { start = \"^a\"; timeout = \"9ms\"; };"), 2,
     "flows[0].multiline.timeout", "from 10ms to 1h", 0},
    {IN_FLOW("multiline = { start = \"^a\"; max_lines = 1; };"), 2, "flows[0].multiline.max_lines",
     "from 2 to 100000", 0},
    {IN_FLOW("multiline = { end = \"^a\"; max_bytes = \"2MiB\"; };"), 2,
     "flows[0].multiline.max_bytes", "from 1KiB to 1MiB", 0},

    /* patterns */
    {IN_FLOW("multiline = { start = \"*a\"; };"), 2, "flows[0].multiline.start", "at character 1",
     0},
    {IN_FLOW("multiline = { continue = \"a)\"; };"), 2, "flows[0].multiline.continue",
     "'a)' is not a pattern", 0},
    {IN_FLOW("multiline = { end = \"(a\"; };"), 2, "flows[0].multiline.end",
     "parenthesis, at its end", 0},
    {IN_FLOW("include = [ \"a\",\n\"b[\" ];"), 3, "flows[0].include[1]", "'b[' is not a pattern",
     0},
    {IN_FLOW("include = [ \"äää)\" ];"), 2, "flows[0].include[0]", "at character 4", 0},
    {IN_FLOW("drop = [ \"a\\xFF\" ];"), 2, "flows[0].drop[0]", "not valid UTF-8", 0},
    {IN_FLOW("drop = \"a\";"), 2, "flows[0].drop", "a list of texts", 0},

    /* parsers */
    {IN_FLOW("parse = { format = \"cvs\"; header = true; on_mismatch = \"drop\"; };"), 2,
     "flows[0].parse.format", "\"logfmt\" or \"cri\"", 0},
    {IN_FLOW("parse = { format = \"\"; };"), 2, "flows[0].parse.format", "\"none\", \"combined\"",
     0},
    {IN_FLOW("parse = { format = \"regex\"; };"), 2, "flows[0].parse.format", "is not known", 0},
    {IN_FLOW("parse = { formatt = \"json\"; };"), 2, "flows[0].parse.formatt",
     "did you mean 'parse.format'?", 0},
    {IN_FLOW("parse = \"json\";"), 2, "flows[0].parse", "write a group", 0},
    {IN_FLOW("parse = {\nformat = \"json\";\nregex = \"(?<a>b)\"; };"), 3, "flows[0].parse.format",
     "beside parse.regex", 0},
    {IN_FLOW("parse = { regex = \"(a\"; };"), 2, "flows[0].parse.regex", "parenthesis", 0},
    {IN_FLOW("parse = { regex = \"ab\"; };"), 2, "flows[0].parse.regex", "has no groups", 0},
    {IN_FLOW("parse = { regex = \"(a)b\"; };"), 2, "flows[0].parse.regex", "groups without names",
     0},
    {IN_FLOW("parse = { regex = \"(?<a>a)b\"; fields = [ \"a\" ]; };"), 2, "flows[0].parse.regex",
     "names of their own", 0},
    {IN_FLOW("parse = { regex = \"(a)(b)\"; fields = [ \"a\" ]; };"), 2, "flows[0].parse.regex",
     "has 2 groups, but", 0},
    {IN_FLOW("parse = { format = \"csv\"; };"), 2, "flows[0].parse.format",
     "needs the names of the columns", 0},
    {IN_FLOW("parse = { format = \"csv\"; header = false; };"), 2, "flows[0].parse.format",
     "needs the names of the columns", 0},
    {IN_FLOW("parse = { format = \"csv\"; header = true; fields = [ \"a\" ]; };"), 2,
     "flows[0].parse.fields", "beside parse.header", 0},
    {IN_FLOW("parse = { format = \"csv\"; fields = [ \"a\", \"b\", \"a\" ]; };"), 2,
     "flows[0].parse.fields[2]", "in this list already", 0},
    {IN_FLOW("parse = { format = \"csv\"; fields = [ \"a\", \"\" ]; };"), 2,
     "flows[0].parse.fields[1]", "is empty", 0},
    {IN_FLOW("parse = { format = \"json\"; fields = [ \"a\" ]; };"), 2, "flows[0].parse.fields",
     "is for parse.regex and", 0},
    {IN_FLOW("parse = { format = \"json\"; delimiter = \";\"; };"), 2, "flows[0].parse.delimiter",
     "is for parse.format = \"csv\"", 0},
    {IN_FLOW("parse = { format = \"json\"; header = true; };"), 2, "flows[0].parse.header",
     "is for parse.format = \"csv\"", 0},
    {IN_FLOW("parse = { regex = \"(?<a>b)\"; header = true; };"), 2, "flows[0].parse.header",
     "is for parse.format = \"csv\"", 0},
    {IN_FLOW("parse = { header = true; };"), 2, "flows[0].parse.header",
     "is for parse.format = \"csv\"", 0},
    {IN_FLOW("parse = { format = \"csv\"; header = true; delimiter = \"ab\"; };"), 2,
     "flows[0].parse.delimiter", "not one character", 0},
    {IN_FLOW("parse = { format = \"csv\"; header = true; delimiter = \"ä\"; };"), 2,
     "flows[0].parse.delimiter", "not one character", 0},
    {IN_FLOW("parse = { format = \"csv\"; header = true; delimiter = \"\\\"\"; };"), 2,
     "flows[0].parse.delimiter", "between columns", 0},
    {IN_FLOW("parse = { format = \"csv\"; header = true; delimiter = \"\"; };"), 2,
     "flows[0].parse.delimiter", "is empty", 0},
    {IN_FLOW("parse = { types = { a = \"text\"; }; };"), 2, "flows[0].parse.types",
     "without parse.format or parse.regex", 0},
    {IN_FLOW("parse = { format = \"json\"; types = { a = \"int\"; }; };"), 2,
     "flows[0].parse.types.a", "\"boolean\" or \"null\"", 0},
    {IN_FLOW("parse = { format = \"json\"; types = { a = 1; }; };"), 2, "flows[0].parse.types.a",
     "write a text in quotes", 0},
    {IN_FLOW("parse = { format = \"json\"; types = [ \"a\" ]; };"), 2, "flows[0].parse.types",
     "a group, as in { name", 0},
    {IN_FLOW("parse = { on_mismatch = \"drop\"; };"), 2, "flows[0].parse.on_mismatch",
     "without parse.format", 0},
    {IN_FLOW("parse = { format = \"none\"; on_mismatch = \"drop\"; };"), 2,
     "flows[0].parse.on_mismatch", "without parse.format", 0},
    {IN_FLOW("parse = { format = \"json\"; on_mismatch = \"keep\"; };"), 2,
     "flows[0].parse.on_mismatch", "\"raw\", \"drop\", \"tag\" or \"dead\"", 0},

    /* times */
    {IN_FLOW("parse = { time = { field = \"t\"; format = \"epoch\"; }; };"), 2,
     "flows[0].parse.time.field", "without parse.format", 2},
    {IN_FLOW("parse = { format = \"json\"; time = {\nfield = \"t\"; }; };"), 3,
     "flows[0].parse.time.field", "without parse.time.format", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { format = \"epoch\"; }; };"), 2,
     "flows[0].parse.time.format", "without parse.time.field", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { zone = \"UTC\"; }; };"), 2,
     "flows[0].parse.time.zone", "without parse.time.field", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { output = \"epoch\"; }; };"), 2,
     "flows[0].parse.time.output", "without parse.time.field", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { field = \"t\"; format = \"%Y %q\"; }; };"), 2,
     "flows[0].parse.time.format", "%q is not known here, at character 4", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { field = \"t\"; format = \"epoch\"; zone = \"x "
             "y\"; }; };"),
     2, "flows[0].parse.time.zone", "is not a zone; write", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { field = \"t\"; format = \"epoch\"; zone = "
             "\"Nowhere/Never\"; }; };"),
     2, "flows[0].parse.time.zone", "tzdata", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { field = \"t\"; format = \"epoch\"; output = "
             "\"iso\"; }; };"),
     2, "flows[0].parse.time.output", "\"rfc3339\", \"epoch\" or \"epoch_ms\"", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { filed = \"t\"; }; };"), 2,
     "flows[0].parse.time.filed", "did you mean 'parse.time.field'?", 0},
    {IN_FLOW("parse = { format = \"json\"; time = \"t\"; };"), 2, "flows[0].parse.time",
     "write a group", 0},
    {IN_FLOW("parse = { time = { zone = \"UTC\"; }; };"), 2, "flows[0].parse.time.zone",
     "without parse.format", 0},
    {IN_FLOW("parse = { time = { output = \"epoch\"; }; };"), 2, "flows[0].parse.time.output",
     "without parse.format", 0},
    {IN_FLOW("parse = { format = \"json\"; time = { formt = \"epoch\"; }; };"), 2,
     "flows[0].parse.time.formt", "did you mean 'parse.time.format'?", 0},

    /* redact */
    {IN_FLOW("redact = { pattern = \"a\"; };"), 2, "flows[0].redact",
     "write a list of groups, as in ( { pattern", 0},
    {IN_FLOW("redact = ( \"a\" );"), 2, "flows[0].redact[0]", "is not a group", 0},
    {IN_FLOW("redact = (\n{ replace = \"a\"; } );"), 3, "flows[0].redact[0].pattern",
     "is missing here", 0},
    {IN_FLOW("redact = ( { pattern = \"\"; } );"), 2, "flows[0].redact[0].pattern", "is empty", 0},
    {IN_FLOW("redact = ( { pattern = \"a\"; },\n{ pattern = \"(\";\n} );"), 3,
     "flows[0].redact[1].pattern", "at its end", 0},
    {IN_FLOW("redact = ( { pattern = \"(a)\"; replace = \"$2\"; } );"), 2,
     "flows[0].redact[0].replace", "is not a replacement", 0},
    {IN_FLOW("redact = ( { pattern = \"(?<a>a)\"; replace = \"${b}\"; } );"), 2,
     "flows[0].redact[0].replace", "no group 'b'", 0},
    {IN_FLOW("redact = ( { pattern = \"a\"; replacement = \"b\"; } );"), 2,
     "flows[0].redact[0].replacement", "did you mean 'replace'?", 0},
    {IN_FLOW("redact = ( { pattern = \"a\"; colour = \"b\"; } );"), 2, "flows[0].redact[0].colour",
     "is not a setting here", 0},
    {IN_FLOW("redact = ( { pattern = \"a\"; replace = 1; } );"), 2, "flows[0].redact[0].replace",
     "a text in quotes", 0},

    /* fields */
    {IN_FLOW("add = \"a\";"), 2, "flows[0].add", "a group, as in { name", 0},
    {IN_FLOW("add = [ \"a\" ];"), 2, "flows[0].add", "a group, as in { name", 0},
    {IN_FLOW("add = { a = [ ]; };"), 2, "flows[0].add.a", "a number, true or false", 0},
    {IN_FLOW("add = { a = 9223372036854775808; };"), 2, "flows[0].add.a", "too large for a number",
     0},
    {IN_FLOW("add = { a = 0xFFFFFFFFFFFFFFFF; };"), 2, "flows[0].add.a", "too large for a number",
     0},
    {IN_FLOW("add = { a = 1e999; };"), 2, "flows[0].add.a", "too large for a number", 0},
    {IN_FLOW("add = { a = \"${\"; };"), 2, "flows[0].add.a", "begins no variable", 0},
    {IN_FLOW("add = { a = \"${env:X\"; };"), 2, "flows[0].add.a", "begins no variable", 0},
    {IN_FLOW("add = { a = \"${}\"; };"), 2, "flows[0].add.a", "is not known", 0},
    {IN_FLOW("add = { a = \"\\xFF\"; };"), 2, "flows[0].add.a", "UTF-8", 0},
    {IN_FLOW("add = ( 1 );"), 2, "flows[0].add[0]", "is not a pair", 0},
    {IN_FLOW("add = (\n{ name = \"@a\"; } );"), 3, "flows[0].add[0]", "is not a pair", 0},
    {IN_FLOW("add = ( { name = \"@a\"; value = \"b\"; more = 1; } );"), 2, "flows[0].add[0]",
     "is not a pair", 0},
    {IN_FLOW("add = ( { name = 1; value = \"b\"; } );"), 2, "flows[0].add[0]", "is not a pair", 0},
    {IN_FLOW("add = ( { name = \"\"; value = \"b\"; } );"), 2, "flows[0].add[0]",
     "the name '' is empty", 0},
    {IN_FLOW("add = ( { name = \"\\xFF\"; value = \"b\"; } );"), 2, "flows[0].add[0]", "UTF-8", 0},
    {IN_FLOW("add = ( { name = \"a\"; value = \"b\"; },\n{ name = \"a\"; value = 3; } );"), 3,
     "flows[0].add[1]", "the name 'a' stands here twice", 0},
    {IN_FLOW("output = \"raw\"; add = { a = 1; };"), 2, "flows[0].add", "beside output = \"raw\"",
     0},
    {IN_FLOW("output = \"raw\"; parse = { format = \"json\"; }; keep = [ \"a\" ];"), 2,
     "flows[0].keep", "beside output = \"raw\"", 0},
    {IN_FLOW("output = \"raw\"; parse = { format = \"json\"; }; remove = [ \"a\" ];"), 2,
     "flows[0].remove", "beside output = \"raw\"", 0},
    {IN_FLOW("output = \"raw\"; parse = { format = \"json\"; };\nrename = { a = \"b\"; };"), 3,
     "flows[0].rename", "beside output = \"raw\"", 0},
    {IN_FLOW("keep = [ \"a\" ];"), 2, "flows[0].keep", "without parse", 0},
    {IN_FLOW("remove = [ \"a\" ];"), 2, "flows[0].remove", "without parse", 0},
    {IN_FLOW("rename = { a = \"b\"; };"), 2, "flows[0].rename", "without parse", 0},
    {IN_FLOW("parse = { format = \"json\"; }; keep = [ \"a\" ]; remove = [ \"b\" ];"), 2,
     "flows[0].remove", "beside keep", 0},
    {IN_FLOW("parse = { format = \"json\"; }; keep = [ \"a\", \"a\" ];"), 2, "flows[0].keep[1]",
     "in this list already", 0},
    {IN_FLOW("parse = { format = \"json\"; }; rename = { a = \"a\"; };"), 2, "flows[0].rename.a",
     "its own name", 0},
    {IN_FLOW("parse = { format = \"json\"; }; rename = { a = \"c\";\nb = \"c\"; };"), 3,
     "flows[0].rename.b", "is what 'a' is called already", 0},
    {IN_FLOW("parse = { format = \"json\"; }; rename = ( { name = \"@a\"; value = \"c\"; },\n{ "
             "name = \"@b\"; value = \"c\"; } );"),
     3, "flows[0].rename[1]", "is what '@a' is called already", 0},
    {IN_FLOW("parse = { format = \"json\"; }; rename = { a = \"\"; };"), 2, "flows[0].rename.a",
     "is empty", 0},
    {IN_FLOW("parse = { format = \"json\"; }; rename = { a = 1; };"), 2, "flows[0].rename.a",
     "write a text in quotes", 0},
    {IN_FLOW("output = \"auto\";"), 2, "flows[0].output", "\"raw\" or \"json\"", 0},
    {IN_FLOW("output = \"\";"), 2, "flows[0].output", "\"raw\" or \"json\"", 0},

    /* conversions */
    {IN_FLOW("convert = ( { trim = true; } );"), 2, "flows[0].convert[0].format", "is missing here",
     0},
    {IN_FLOW("convert = ( { format = \"java\"; } );"), 2, "flows[0].convert[0].format",
     "\"java_singleline\"", 0},
    {IN_FLOW("convert = ( { format = \"java_csv\"; } );"), 2, "flows[0].convert[0].fields",
     "needs the names", 0},
    {IN_FLOW("convert = ( { format = \"java_csv\"; fields = [ \"a\" ];\nlog = \"SYSLOG\"; } );"), 3,
     "flows[0].convert[0].log", "not a setting of format = \"java_csv\"", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; trim = true; } );"), 2,
     "flows[0].convert[0].trim", "not a setting of format = \"java_brackets\"", 0},
    {IN_FLOW("convert = ( { format = \"java_log\"; } );"), 2, "flows[0].convert[0].log",
     "is missing here", 0},
    {IN_FLOW("convert = ( { format = \"java_log\"; match = \"(a)\"; fields = [ \"a\" ]; } );"), 2,
     "flows[0].convert[0].log", "also beside match", 0},
    {IN_FLOW("convert = ( { format = \"java_log\"; log = \"APACHE\"; } );"), 2,
     "flows[0].convert[0].log", "\"RFC3339SYSLOG\"", 0},
    {IN_FLOW("convert = ( { format = \"java_log\"; log = \"SYSLOG\"; match = \"(a)\"; } );"), 2,
     "flows[0].convert[0].fields", "names of its groups", 0},
    {IN_FLOW("convert = ( { format = \"java_log\"; log = \"COMBINEDAPACHELOG\"; fields = [ \"a\" "
             "]; } );"),
     2, "flows[0].convert[0].fields", "COMBINEDAPACHELOG has 9", 0},
    {IN_FLOW("convert = ( { format = \"java_metadata\"; } );"), 2, "flows[0].convert[0].metadata",
     "is missing here", 0},
    {IN_FLOW("convert = ( { format = \"java_metadata\"; metadata = \"{\"; } );"), 2,
     "flows[0].convert[0].metadata", "is not JSON", 0},
    {IN_FLOW("convert = ( { format = \"java_metadata\"; metadata = \"{} {}\"; } );"), 2,
     "flows[0].convert[0].metadata", "is not JSON", 0},
    {IN_FLOW("convert = ( { format = \"java_ec2_metadata\"; ttl = 5; } );"), 2,
     "flows[0].convert[0].ttl", "has no unit", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } ); parse = { format = \"json\"; };"), 2,
     "flows[0].parse.format", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } ); parse = { regex = \"(?<a>b)\"; };"), 2,
     "flows[0].parse.regex", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } ); output = \"raw\";"), 2,
     "flows[0].output", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } );\nadd = { a = 1; };"), 3,
     "flows[0].add", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } ); keep = [ \"a\" ];"), 2,
     "flows[0].keep", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } ); remove = [ \"a\" ];"), 2,
     "flows[0].remove", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_brackets\"; } ); rename = { a = \"b\"; };"), 2,
     "flows[0].rename", "beside convert", 0},
    {IN_FLOW("convert = ( { format = \"java_csv\"; fields = [ \"a\" ]; delimiter = \"a(\"; } );"),
     2, "flows[0].convert[0].delimiter", "'a(' is not a pattern of Java's: ", 0},
    {IN_FLOW("convert = ( { format = \"java_log\"; log = \"SYSLOG\"; fields = [ \"a\" ];\n"
             "match = \"*\"; } );"),
     3, "flows[0].convert[0].match", "at character 1", 0},
    {IN_FLOW(
         "convert = ( { format = \"java_csv\"; fields = [ \"a\" ]; delimiter = \"a\\\\G\"; } );"),
     2, "flows[0].convert[0].delimiter", "that we can say in our words", 0},

    /* records */
    {IN_FLOW("join = \"kpl\";"), 2, "flows[0].join", "not in this version", 0},
    {IN_FLOW("join = \"line\";"), 2, "flows[0].join", "\"none\" or \"lines\"", 0},
    {IN_FLOW("join_bytes = \"32KiB\";"), 2, "flows[0].join_bytes", "without join", 0},
    {IN_FLOW("join = \"lines\"; join_bytes = \"2MiB\";"), 2, "flows[0].join_bytes",
     "from 1KiB to 1MiB", 0},
    {IN_FLOW("compress = \"lz4\";"), 2, "flows[0].compress", "\"none\", \"gzip\" or \"zstd\"", 0},
    {IN_FLOW("compress_level = 3;"), 2, "flows[0].compress_level", "without compress", 0},
    {IN_FLOW("compress = \"gzip\"; compress_level = 10;"), 2, "flows[0].compress_level",
     "out of range for gzip", 0},
    {IN_FLOW("compress = \"zstd\"; compress_level = 20;"), 2, "flows[0].compress_level",
     "from 0 to 19", 0},
    {IN_FLOW("on_oversize = \"cut\";"), 2, "flows[0].on_oversize",
     "\"truncate\", \"split\" or \"dead\"", 0},
    {IN_FLOW("key = \"field:a\";"), 2, "flows[0].key", "nothing is parsed", 0},
    {IN_FLOW("key = \"field:\"; parse = { format = \"json\"; };"), 2, "flows[0].key",
     "no text after field:", 0},
    {IN_FLOW("key = \"regex:a\";"), 2, "flows[0].key", "has no group", 0},
    {IN_FLOW("key = \"regex:(a\";"), 2, "flows[0].key", "parenthesis", 0},
    {IN_FLOW("key = \"hash:\";"), 2, "flows[0].key", "\"hash\", \"file\", \"host\", \"field:NAME\"",
     0},
    {IN_FLOW("key = \"hashed\";"), 2, "flows[0].key", "is not known here", 0},
    {IN_FIREHOSE("join = \"lines\"; join_bytes = \"1001KiB\";"), 2, "flows[0].join_bytes",
     "at most \"1000KiB\"", 0},
    {IN_FIREHOSE("batch = { bytes = \"5MiB\"; };"), 2, "flows[0].batch.bytes", "at most \"4MiB\"",
     0},
    {IN_FIREHOSE("key = \"random\";"), 2, "flows[0].key", "no partition keys", 0},
    {IN_FIREHOSE("\nkey = \"field:a\";"), 3, "flows[0].key", "no partition keys", 0},
    {IN_FIREHOSE("join = \"kpl\";"), 2, "flows[0].join", "'kpl' is not in this version", 0},
    {IN_FIREHOSE("\nstream_arn = \"arn:aws:kinesis:eu-west-1:123456789012:stream/x\";"), 2,
     "flows[0].delivery_stream", "beside a Kinesis stream", 0},

    /* endpoints */
    {REGION "endpoint = { kinesis = \"kinesis:80\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "begin it with https://", 0},
    {REGION "endpoint = { kinesis = \"http://example.com\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "in the clear", 0},
    {REGION "endpoint = { kinesis = \"http://localhost.example.com\"; };\n" FLOWS, 2,
     "endpoint.kinesis", "in the clear", 0},
    {REGION "endpoint = { kinesis = \"http://[::2]\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "in the clear", 0},
    {REGION "endpoint = { kinesis = \"http://0.0.0.0\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "in the clear", 0},
    {REGION "endpoint = { kinesis = \"http://128.0.0.1\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "in the clear", 0},
    {REGION "endpoint = { kinesis = \"http://127.1\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "in the clear", 0},
    {REGION "endpoint = { kinesis = \"http://127.0.0.1@example.com\"; };\n" FLOWS, 2,
     "endpoint.kinesis", "has a user", 0},
    {REGION "endpoint = { kinesis = \"https://example.com/?a\"; };\n" FLOWS, 2, "endpoint.kinesis",
     "query", 0},
    {REGION "endpoint = { kinesis = \"https://example.com:65536\"; };\n" FLOWS, 2,
     "endpoint.kinesis", "https://HOST:PORT", 0},

    /* all of them at once, each with its own line */
    {"regoin = \"x\";\nlanes = 0;\ndrain_timeout = 1;\nlog = { level = \"x\"; };\n" FLOWS, 4,
     "log.level", "not known", 5},
};

static bool told(const struct config_mistakes *m, const struct story *s)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct config_mistake *one = &m->items[i];
        if (strcmp(one->file, "test.conf") == 0 && one->line == s->line &&
            strcmp(one->key, s->key) == 0 && strstr(one->sentence, s->part) != NULL)
            return true;
    }
    return false;
}

static void test_mistakes(void **state)
{
    size_t failed = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct config_mistakes m = {0};
        struct config *c = NULL;

        int r = config_load_text(slice_of(s->input), "test.conf", &c, &m);
        if (r != -EINVAL || !told(&m, s) || m.count != MAX(s->count, 1U)) {
            print_error("story %zu: %sexpected %u: %s: ...%s...; %d, %zu mistakes:\n", i, s->input,
                        s->line, s->key, s->part, r, m.count);
            config_mistakes_print(&m, stderr);
            failed++;
        }
        for (size_t j = 0; j < m.count; j++)
            assert_null(strstr(m.items[j].sentence, "hush"));
        assert_null(c);
        config_mistakes_done(&m);
    }
    assert_int_equal(failed, 0);
}

static struct config *load_well(const char *text)
{
    struct config_mistakes m = {0};
    struct config *c = NULL;
    int r = config_load_text(slice_of(text), "test.conf", &c, &m);

    config_mistakes_print(&m, stderr);
    assert_int_equal(r, 0);
    assert_int_equal(m.count, 0);
    return c;
}

static void test_zero_byte_and_size(void **state)
{
    static const char zero[] = REGION "\0" FLOWS;
    struct config_mistakes m = {0};
    struct config *c = NULL;
    char *large = malloc(1024 * 1024 + 1);

    (void)state;
    assert_non_null(large);
    memset(large, '#', 1024 * 1024 + 1);
    assert_int_equal(config_load_text((struct slice){zero, sizeof zero - 1}, "z", &c, &m), -EINVAL);
    assert_int_equal(config_load_text((struct slice){large, 1024 * 1024 + 1}, "l", &c, &m),
                     -EINVAL);
    assert_int_equal(m.count, 2);
    assert_int_equal(m.items[0].line, 2);
    assert_non_null(strstr(m.items[0].sentence, "zero byte"));
    assert_non_null(strstr(m.items[1].sentence, "larger than 1 MiB"));
    config_mistakes_done(&m);

    c = NULL; /* exactly at the limit is well, also a comment without its newline */
    memcpy(large, REGION FLOWS, strlen(REGION FLOWS));
    assert_int_equal(config_load_text((struct slice){large, 1024 * 1024}, "l", &c, &m), 0);
    config_free(c);
    free(large);
}

/* --- what is well ---------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
    struct config *c = load_well(REGION FLOWS "# no newline after this");
    const struct config_flow *f = &c->flows[0];

    (void)state;
    assert_string_equal(c->region, "eu-west-1");
    assert_string_equal(c->state_dir, "/var/lib/kinetail");
    assert_int_equal(c->lanes, 1);
    assert_int_equal(c->drain_timeout_ms, 10000);
    assert_null(c->endpoint.kinesis);
    assert_null(c->credentials.access_key_id);
    assert_null(c->credentials.secret_access_key);
    assert_null(c->credentials.session_token);
    assert_null(c->tls.ca_file);
    assert_int_equal(c->log_level, CONFIG_LOG_INFO);
    assert_int_equal(c->flow_count, 1);
    assert_string_equal(f->name, "a");
    assert_int_equal(f->files.count, 1);
    assert_string_equal(f->files.items[0], "/a");
    assert_int_equal(f->exclude.count, 0);
    assert_false(f->from_start);
    assert_false(f->follow_symlinks);
    assert_string_equal(f->stream, "s");
    assert_null(f->stream_arn);
    assert_null(f->delivery_stream);
    assert_string_equal(f->destination, "s");
    assert_null(f->multiline.start);
    assert_null(f->multiline.proceed);
    assert_null(f->multiline.end);
    assert_int_equal(f->multiline.timeout_ms, 2000);
    assert_int_equal(f->multiline.max_lines, 500);
    assert_int_equal(f->multiline.max_bytes, 1024 * 1024);
    assert_int_equal(f->skip_header_lines, 0);
    assert_int_equal(f->encoding, CONFIG_UTF8);
    assert_int_equal(f->parse.format, PARSE_NONE);
    assert_null(f->parse.regex);
    assert_int_equal(f->parse.fields.count, 0);
    assert_string_equal(f->parse.delimiter, ",");
    assert_false(f->parse.header);
    assert_int_equal(f->parse.types.count, 0);
    assert_null(f->parse.time.field);
    assert_null(f->parse.time.format);
    assert_string_equal(f->parse.time.zone, "local");
    assert_int_equal(f->parse.time.output, CONFIG_TIME_RFC3339);
    assert_int_equal(f->parse.on_mismatch, CONFIG_MISMATCH_RAW);
    assert_int_equal(f->convert.count + f->include.count + f->drop.count + f->redact.count, 0);
    assert_int_equal(f->add.count + f->keep.count + f->remove.count + f->rename.count, 0);
    assert_int_equal(f->output, CONFIG_OUTPUT_AUTO);
    assert_int_equal(f->newline, CONFIG_NEWLINE_AUTO);
    assert_int_equal(f->join, CONFIG_JOIN_NONE);
    assert_int_equal(f->join_bytes, 64 * 1024);
    assert_int_equal(f->compress, CONFIG_COMPRESS_NONE);
    assert_int_equal(f->compress_level, 0);
    assert_int_equal(f->on_oversize, CONFIG_OVERSIZE_TRUNCATE);
    assert_int_equal(f->key_kind, CONFIG_KEY_RANDOM);
    assert_null(f->key_text);
    assert_int_equal(f->batch_records, 500);
    assert_int_equal(f->batch_bytes, 1024 * 1024);
    assert_int_equal(f->batch_linger_ms, 1000);
    assert_int_equal(f->max_in_flight, 4);
    assert_string_equal(f->truncated_suffix, "...(truncated)");
    assert_string_equal(f->where_file, "test.conf");
    assert_int_equal(f->where_line, 2);
    config_free(c);
}

static const char everything[] =
    "region = \"eu-west-1\"; state_dir = \"/s\\\"q\"; lanes = 1L; drain_timeout = \"1500ms\";\n"
    "endpoint : { kinesis = \"http://[::1]:4567/\" }\n"
    "credentials = { access_key_id = \"AKID\"; secret_access_key = \"hush/+=\";\n"
    "                session_token = \"hush2\"; };\n"
    "tls = { ca_file = \"/etc/passwd\"; }; log = { level = \"debug\"; };\n"
    "proxy = { url = \"https://me:hush%40@proxy:3128\"; no_proxy = \"\"; };\n"
    "flows = ( { name = \"ä\"; files = ( \"/a/**/[!a]?.{log,txt}\", \"/b\" \"c\" );\n"
    "  exclude = [ \"*.gz\" ]; from = \"start\"; follow_symlinks = TRUE; newline = true;\n"
    "  stream_arn = \"arn:aws-cn:kinesis:eu-west-1:123456789012:stream/a.b\";\n"
    "  key = \"const:\\xC3\\xA4\\\\\\x01\"; batch = { records = 0x10; bytes = 2000000;\n"
    "  linger = \"1.5s\"; }; max_in_flight = 1; truncated_suffix = \"\"; },\n"
    "  { name = \"b\"; files = [ \"/b\" ]; stream = \"s\"; key = \"file\"; } );\n";

static void test_everything_set(void **state)
{
    struct config *c = load_well(everything);
    const struct config_flow *f = &c->flows[0];

    (void)state;
    assert_string_equal(c->state_dir, "/s\"q");
    assert_int_equal(c->drain_timeout_ms, 1500);
    assert_string_equal(c->endpoint.kinesis, "http://[::1]:4567/");
    assert_string_equal(c->credentials.secret_access_key, "hush/+=");
    assert_string_equal(c->credentials.session_token, "hush2");
    assert_string_equal(c->proxy.url, "https://me:hush%40@proxy:3128");
    assert_string_equal(c->proxy.no_proxy, "");
    assert_int_equal(c->log_level, CONFIG_LOG_DEBUG);
    assert_int_equal(f->files.count, 2);
    assert_string_equal(f->files.items[1], "/bc");
    assert_string_equal(f->exclude.items[0], "*.gz");
    assert_true(f->from_start && f->follow_symlinks);
    assert_int_equal(f->newline, CONFIG_NEWLINE_TRUE);
    assert_null(f->stream);
    assert_int_equal(f->key_kind, CONFIG_KEY_CONST);
    assert_string_equal(f->key_text, "\xC3\xA4\\\x01");
    assert_int_equal(f->batch_records, 16);
    assert_int_equal(f->batch_bytes, 2000000);
    assert_int_equal(f->batch_linger_ms, 1500);
    assert_string_equal(f->truncated_suffix, "");
    assert_int_equal(c->flows[1].key_kind, CONFIG_KEY_FILE);
    assert_int_equal(c->flows[1].where_line, 11 + 1);
    config_free(c);
}

/* What becomes of lines, with every way to write it. */
static const char shaping[] = REGION
    "flows = ( { " FLOW
    "  multiline = { start = \"^\\\\d\"; continue = \"^ \"; end = \";$\"; timeout = \"10ms\";\n"
    "    max_lines = 2; max_bytes = 1024; }; skip_header_lines = 3; encoding = \"latin1\";\n"
    "  parse = { format = \"csv\"; fields = ( \"a\", \"b\" ); delimiter = \"\\t\";\n"
    "    types = ( { name = \"a\"; value = \"integer\"; } );\n"
    "    time = { field = \"b\"; format = \"%Y-%m-%d %H:%M\"; zone = \"+02:00\"; output = "
    "\"epoch_ms\"; "
    "};\n"
    "    on_mismatch = \"tag\"; };\n"
    "  include = [ \"a\", \"b|c\" ]; drop = ( \"d\" );\n"
    "  redact = ( { pattern = \"(?<x>\\\\d)1\"; replace = \"${x}$$\"; }, { pattern = \"e\"; } );\n"
    "  add = { text = \"${HOSTNAME}\"; n = -3; big = 3000000000; x = 1.5; e = 1e20; yes = true;\n"
    "    zero = -0.0; hex = 0x10; third = 0.30000000000000004; empty = \"\"; };\n"
    "  keep = [ \"a\" ]; rename = ( { value = \"@a\"; name = \"a\"; } ); output = \"json\";\n"
    "  newline = false; join = \"lines\"; join_bytes = \"1MiB\"; compress = \"zstd\";\n"
    "  compress_level = 19; on_oversize = \"split\"; key = \"field:a\"; },\n"
    "{ name = \"b\"; files = [ \"/b\" ]; delivery_stream = \"d.S-_1\"; convert = (\n"
    "    { format = \"java_singleline\"; trim = false; escape_newline = true; },\n"
    "    { format = \"java_csv\"; delimiter = \"\"; fields = [ \"a\", \"\", \"a\" ]; pretty = "
    "true; },\n"
    "    { format = \"java_log\"; log = \"SYSLOG\"; match = \"(a)\"; fields = [ \"x\" ]; },\n"
    "    { format = \"java_log\"; log = \"RFC3339SYSLOG\"; },\n"
    "    { format = \"java_metadata\"; metadata = \"{\\\"a\\\": [1]}\"; timestamp = true; },\n"
    "    { format = \"java_ec2_metadata\"; ttl = \"2h\"; }, { format = \"java_brackets\"; } );\n"
    "  redact = [ ]; },\n"
    "{ " REGEX_FLOW "key = \"regex:(\\\\w+)\"; } );\n";

static void check_pairs(const struct config_pairs *p)
{
    static const struct config_pair wanted[] = {
        {"text", "${HOSTNAME}", false},
        {"n", "-3", true},
        {"big", "3000000000", true},
        {"x", "1.5", true},
        {"e", "1e+20", true},
        {"yes", "true", true},
        {"zero", "0", true},
        {"hex", "16", true},
        {"third", "0.30000000000000004", true},
        {"empty", "", false},
    };

    assert_int_equal(p->count, ARRAY_LEN(wanted));
    for (size_t i = 0; i < p->count; i++) {
        assert_string_equal(p->items[i].name, wanted[i].name);
        assert_string_equal(p->items[i].value, wanted[i].value);
        assert_int_equal(p->items[i].literal, wanted[i].literal);
    }
}

static void check_first_shaping(const struct config_flow *f)
{
    assert_string_equal(f->multiline.start, "^\\d");
    assert_string_equal(f->multiline.proceed, "^ ");
    assert_string_equal(f->multiline.end, ";$");
    assert_int_equal(f->multiline.timeout_ms, 10);
    assert_int_equal(f->multiline.max_lines, 2);
    assert_int_equal(f->multiline.max_bytes, 1024);
    assert_int_equal(f->skip_header_lines, 3);
    assert_int_equal(f->encoding, CONFIG_LATIN1);
    assert_int_equal(f->parse.format, PARSE_CSV);
    assert_int_equal(f->parse.fields.count, 2);
    assert_string_equal(f->parse.delimiter, "\t");
    assert_string_equal(f->parse.types.items[0].name, "a");
    assert_string_equal(f->parse.types.items[0].value, "integer");
    assert_string_equal(f->parse.time.field, "b");
    assert_string_equal(f->parse.time.format, "%Y-%m-%d %H:%M");
    assert_string_equal(f->parse.time.zone, "+02:00");
    assert_int_equal(f->parse.time.output, CONFIG_TIME_EPOCH_MS);
    assert_int_equal(f->parse.on_mismatch, CONFIG_MISMATCH_TAG);
    assert_string_equal(f->include.items[1], "b|c");
    assert_string_equal(f->drop.items[0], "d");
    assert_int_equal(f->redact.count, 2);
    assert_string_equal(f->redact.items[0].pattern, "(?<x>\\d)1");
    assert_string_equal(f->redact.items[0].replace, "${x}$$");
    assert_string_equal(f->redact.items[1].replace, "***");
    check_pairs(&f->add);
    assert_string_equal(f->keep.items[0], "a");
    assert_string_equal(f->rename.items[0].name, "a");
    assert_string_equal(f->rename.items[0].value, "@a");
    assert_int_equal(f->output, CONFIG_OUTPUT_JSON);
    assert_int_equal(f->newline, CONFIG_NEWLINE_FALSE);
    assert_int_equal(f->join, CONFIG_JOIN_LINES);
    assert_int_equal(f->join_bytes, 1024 * 1024);
    assert_int_equal(f->compress, CONFIG_COMPRESS_ZSTD);
    assert_int_equal(f->compress_level, 19);
    assert_int_equal(f->on_oversize, CONFIG_OVERSIZE_SPLIT);
    assert_int_equal(f->key_kind, CONFIG_KEY_FIELD);
    assert_string_equal(f->key_text, "a");
}

static void check_converts(const struct config_flow *f)
{
    const struct config_convert *c = f->convert.items;

    assert_string_equal(f->delivery_stream, "d.S-_1");
    assert_string_equal(f->destination, "firehose:d.S-_1");
    assert_int_equal(f->convert.count, 7);
    assert_int_equal(c[0].format, CONFIG_JAVA_SINGLELINE);
    assert_true(!c[0].trim && c[0].escape_newline);
    assert_int_equal(c[1].format, CONFIG_JAVA_CSV);
    assert_string_equal(c[1].delimiter, "");
    assert_int_equal(c[1].fields.count, 3);
    assert_true(c[1].pretty && c[1].trim);
    assert_int_equal(c[2].log, CONFIG_JAVA_SYSLOG);
    assert_string_equal(c[2].match, "(a)");
    assert_string_equal(c[2].delimiter, ",");
    assert_int_equal(c[3].log, CONFIG_JAVA_RFC3339);
    assert_null(c[3].match);
    assert_string_equal(c[4].metadata, "{\"a\": [1]}");
    assert_true(c[4].timestamp);
    assert_int_equal(c[5].ttl_ms, 7200000);
    assert_int_equal(c[6].format, CONFIG_JAVA_BRACKETS);
    assert_int_equal(c[6].ttl_ms, 3600000);
}

static void test_shaping(void **state)
{
    struct config *c = load_well(shaping);

    (void)state;
    check_first_shaping(&c->flows[0]);
    check_converts(&c->flows[1]);
    assert_int_equal(c->flows[2].key_kind, CONFIG_KEY_REGEX);
    assert_string_equal(c->flows[2].key_text, "(\\w+)");
    assert_int_equal(c->flows[2].parse.format, PARSE_REGEX);
    assert_string_equal(c->flows[2].parse.regex, "(a)(?:b)");
    config_free(c);
}

/* What must be well, beside everything that the mistakes are about. */
static const char *const good_flows[] = {
    "key = \"hash\";",
    "key = \"host\";",
    "key = \"file\";",
    "key = \"const:field:x\";",
    "multiline = { continue = \"^\\\\s\"; max_lines = 100000; };",
    "multiline = { };",
    "parse = { };",
    "parse = { time = { }; };",
    "parse = { format = \"none\"; };",
    "parse = { format = \"json\"; types = { a = \"null\"; b = \"boolean\"; c = \"number\"; }; };",
    "parse = { format = \"csv\"; header = true; }; remove = [ \"a\" ];",
    "parse = { format = \"csv\"; header = false; fields = [ \"a\" ]; };",
    "parse = { regex = \"(?<a>.)(.)\"; on_mismatch = \"dead\"; };",
    "parse = { format = \"rfc3164\"; time = { field = \"timestamp\"; format = \"syslog\"; }; };",
    "parse = { format = \"none\"; }; convert = ( { format = \"java_brackets\"; } );",
    "parse = { format = \"json\"; }; output = \"raw\"; key = \"field:a\";",
    "parse = { format = \"json\"; }; rename = { a = \"b\"; b = \"a\"; };",
    "add = { a = 1; }; rename = { a = \"b\"; };",
    "add = ( { name = \"true\"; value = true; }, { name = \"a b\"; value = \"$$ {\"; } );",
    "add = ( { name = \"true\"; value = 1; } );",
    "add = ( { name = \"*a-b_1\"; value = 0.30000000000000004; } );",
    "add = [ ]; redact = [ ]; convert = ( );",
    "output = \"json\"; keep = [ \"a\" ];",
    "output = \"raw\"; redact = ( { pattern = \"a\"; } ); include = [ \"a\" ]; drop = [ ];",
    "convert = ( { format = \"java_singleline\"; } ); redact = ( { pattern = \"a\"; } );",
    "compress = \"gzip\"; compress_level = 9;",
    "convert = ( { format = \"java_csv\"; fields = [ \"a\" ]; delimiter = \"[a-z&&[^b]]\"; } );",
    "include = [ \"\\xC3\\xA4\", \"\\\\p{L}\" ];",
};

static char *print(const struct config *c)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    assert_non_null(to);
    assert_int_equal(config_print(c, to), 0);
    fclose(to);
    return text;
}

static void test_print_loads_again(void **state)
{
    struct config *c = load_well(everything), *again;
    char *text = print(c), *text_again;

    (void)state;
    assert_null(strstr(text, "hush"));
    assert_non_null(strstr(text, "secret_access_key = \"********\""));
    assert_non_null(strstr(text, "url = \"https://********@proxy:3128\""));
    again = load_well(text);
    text_again = print(again);
    assert_string_equal(text, text_again);
    assert_string_equal(again->flows[0].key_text, c->flows[0].key_text);
    assert_int_equal(again->flows[0].batch_bytes, 2000000);
    assert_int_equal(again->flows[0].batch_linger_ms, 1500);
    assert_true(again->flows[0].from_start);
    assert_int_equal(again->flow_count, 2);
    free(text);
    free(text_again);
    config_free(c);
    config_free(again);
}

/* Takes it; what is printed loads again and prints the same. */
static void check_round_trip(struct config *c)
{
    char *text = print(c), *text_again;
    struct config *again = load_well(text);

    text_again = print(again);
    assert_string_equal(text, text_again);
    free(text);
    free(text_again);
    config_free(c);
    config_free(again);
}

static void test_shaping_loads_again(void **state)
{
    struct config *c = load_well(shaping), *again;
    char *text = print(c);

    (void)state;
    again = load_well(text);
    check_first_shaping(&again->flows[0]);
    check_converts(&again->flows[1]);
    assert_non_null(strstr(text, "                output = \"epoch_ms\";\n            };\n"
                                 "            on_mismatch = \"tag\";\n        };\n"));
    assert_null(strstr(text, "compress_level = 0")); /* what has no effect is not there */
    free(text);
    config_free(again);
    check_round_trip(c);
}

static void test_good_flows(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good_flows); i++) {
        char text[512];
        (void)snprintf(text, sizeof text, REGION "flows = ( { " FLOW "%s } );", good_flows[i]);
        check_round_trip(load_well(text));
    }
}

/* libconfig compares each name of a group with each; the sum of many groups does no harm. */
static void test_groups_are_bounded(void **state)
{
    static const struct {
        unsigned groups, names;
        int r;
        const char *part;
    } cases[] = {
        {3, 999, 0, NULL},
        {1, 1001, -EINVAL, "has more than 1000 names"},
        {1, 2001, -EINVAL, "more than 2000 settings in this group"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config_mistakes m = {0};
        struct config *c = NULL;
        struct buf text;

        buf_init(&text, 1024 * 1024);
        assert_int_equal(buf_printf(&text, REGION "flows = ( "), 0);
        for (unsigned g = 0; g < cases[i].groups; g++) {
            assert_int_equal(buf_printf(&text,
                                        "%s{ name = \"%u\"; files = [ \"/a\" ]; stream = "
                                        "\"s\"; add = { ",
                                        g > 0 ? "," : "", g),
                             0);
            for (unsigned n = 0; n < cases[i].names; n++)
                assert_int_equal(buf_printf(&text, "a%u = %u; ", n, n), 0);
            assert_int_equal(buf_printf(&text, "}; }"), 0);
        }
        assert_int_equal(buf_printf(&text, ");"), 0);
        assert_int_equal(config_load_text(buf_slice(&text), "k", &c, &m), cases[i].r);
        assert_int_equal(m.count, cases[i].part != NULL);
        if (cases[i].part != NULL)
            assert_non_null(strstr(m.items[0].sentence, cases[i].part));
        config_free(c);
        config_mistakes_done(&m);
        buf_done(&text);
    }
}

static const char *const good_endpoints[] = {
    "https://example.com",   "https://example.com/", "https://10.0.0.1:8443",
    "http://127.0.0.1:4567", "http://127.9.9.9",     "http://localhost:1",
    "http://[::1]",          "http://LocalHost/",    "https://[fe80::1]:65535",
};

static void test_good_endpoints(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good_endpoints); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, REGION FLOWS "endpoint = { kinesis = \"%s\"; };",
                       good_endpoints[i]);
        config_free(load_well(text));
    }
}

static const char *const good_globs[] = {
    "/a", "/**", "/**/a", "/a/**/b/**", "/a/*?[]a]", "/[!]]", "/{a,b{c,d}}", "/a\\\\[b", "/[{]",
};

static void test_good_globs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good_globs); i++) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       REGION "flows = ( { name = \"n\"; stream = \"s\"; files = [ \"%s\" ]; } );",
                       good_globs[i]);
        config_free(load_well(text));
    }
}

/* PutRecords counts a key's characters, so one beyond U+FFFF counts twice. */
static void test_partition_key_length(void **state)
{
    static const struct {
        const char *character;
        size_t count;
        bool well;
    } keys[] = {
        {"k", 256, true},
        {"k", 257, false},
        {"\xC3\xA4", 256, true},
        {"\xC3\xA4", 257, false},
        {"\xF0\x9F\x98\x80", 128, true},
        {"\xF0\x9F\x98\x80", 129, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct config_mistakes m = {0};
        struct config *c = NULL;
        struct buf text;

        buf_init(&text, 4096);
        assert_int_equal(buf_printf(&text, REGION "flows = ( { " FLOW "key = \"const:"), 0);
        for (size_t n = 0; n < keys[i].count; n++)
            assert_int_equal(buf_append(&text, slice_of(keys[i].character)), 0);
        assert_int_equal(buf_printf(&text, "\"; } );"), 0);
        assert_int_equal(config_load_text(buf_slice(&text), "k", &c, &m),
                         keys[i].well ? 0 : -EINVAL);
        config_free(c);
        config_mistakes_done(&m);
        buf_done(&text);
    }
}

static void test_units(void **state)
{
    static const struct {
        const char *text;
        int bytes_r, time_r;
        uint64_t bytes, ms;
    } units[] = {
        {"512", 0, -EINVAL, 512, 0},
        {"64KiB", 0, -EINVAL, 65536, 0},
        {"1MB", 0, -EINVAL, 1000000, 0},
        {"1.5MiB", 0, -EINVAL, 1572864, 0},
        {"1 KB", 0, -EINVAL, 1000, 0},
        {"0.5B", -ERANGE, -EINVAL, 0, 0},
        {"1K", -EINVAL, -EINVAL, 0, 0},
        {"18446744073709551615", 0, -EINVAL, UINT64_MAX, 0},
        {"18446744073709551616", -ERANGE, -ERANGE, 0, 0},
        {"99999999999GiB", -ERANGE, -EINVAL, 0, 0},
        {"250ms", -EINVAL, 0, 0, 250},
        {"1.5s", -EINVAL, 0, 0, 1500},
        {"2m", -EINVAL, 0, 0, 120000},
        {"2min", -EINVAL, 0, 0, 120000},
        {"1h", -EINVAL, 0, 0, 3600000},
        {"1.0005s", -EINVAL, -ERANGE, 0, 0},
        {"", -EINVAL, -EINVAL, 0, 0},
        {".5s", -EINVAL, -EINVAL, 0, 0},
        {"5.s", -EINVAL, -EINVAL, 0, 0},
        {"-1s", -EINVAL, -EINVAL, 0, 0},
        {"1s ", -EINVAL, -EINVAL, 0, 0},
    };
    static const uint64_t values[] = {0,    1,     999,     1000,     1024,
                                      1500, 60000, 1048576, 86400000, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        uint64_t bytes = 0, ms = 0;
        int bytes_r = units_parse_bytes(slice_of(units[i].text), &bytes);
        int time_r = units_parse_time(slice_of(units[i].text), &ms);

        if (bytes_r != units[i].bytes_r || time_r != units[i].time_r || bytes != units[i].bytes ||
            ms != units[i].ms)
            fail_msg("'%s': %d, %d", units[i].text, bytes_r, time_r);
    }
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char text[UNITS_TEXT_SIZE];
        uint64_t again = 7;

        units_format_bytes(values[i], text);
        assert_int_equal(units_parse_bytes(slice_of(text), &again), 0);
        assert_int_equal(again, values[i]);
        units_format_time(values[i], text);
        assert_int_equal(units_parse_time(slice_of(text), &again), 0);
        assert_int_equal(again, values[i]);
    }
}

/* --- the tables and config.example ----------------------------------------------------------- */

#ifndef SOURCE_DIR
#define SOURCE_DIR "."
#endif

enum { EXAMPLE_MAX = 64 * 1024 };

static char *read_example(void)
{
    char *text = calloc(1, EXAMPLE_MAX);
    FILE *from = fopen(SOURCE_DIR "/config.example", "re");

    assert_non_null(text);
    assert_non_null(from);
    assert_true(fread(text, 1, EXAMPLE_MAX - 1, from) > 0);
    fclose(from);
    return text;
}

/* "    #name = value;" or "name = value;" of config.example, as path and value. */
struct line {
    char path[128], value[256];
    const char *begin; /* borrows; of the whole line, and so does `end` */
    const char *end;
    bool off, in_flow;
};

struct reader {
    const char *at;
    char group[64]; /* "" or "parse.time." */
    bool in_flow;
};

/* Goes through the lines.  The example is ours, so a simple reading will do: a group opens with
 * "name = {" and closes with "};", and flows come last. */
static bool next_line(struct reader *r, struct line *ret)
{
    char name[64], value[256];

    while (*r->at != '\0') {
        size_t len = strcspn(r->at, "\n");
        const char *begin = r->at, *line;
        char copy[512];

        r->at += len + (begin[len] == '\n');
        (void)snprintf(copy, sizeof copy, "%.*s", (int)len, begin);
        line = copy + strspn(copy, " ");
        if (strcmp(line, "};") == 0 && r->group[0] != '\0') {
            r->group[strlen(r->group) - 1] = '\0';
            r->group[strrchr(r->group, '.') != NULL ? strrchr(r->group, '.') - r->group + 1 : 0] =
                '\0';
        } else if (strcmp(line, "flows = (") == 0) {
            r->in_flow = true;
        }
        if (sscanf(line + (line[0] == '#'), "%63[a-z_] = %255[^\n]", name, value) != 2 ||
            strcmp(name, "flows") == 0)
            continue;
        if (strcmp(value, "{") == 0) {
            (void)snprintf(r->group + strlen(r->group), sizeof r->group - strlen(r->group), "%s.",
                           name);
            continue;
        }
        assert_int_equal(value[strlen(value) - 1], ';');
        value[strlen(value) - 1] = '\0';
        *ret = (struct line){
            .begin = begin, .end = begin + len, .off = line[0] == '#', .in_flow = r->in_flow};
        (void)snprintf(ret->path, sizeof ret->path, "%s%s", r->group, name);
        (void)snprintf(ret->value, sizeof ret->value, "%s", value);
        return true;
    }
    return false;
}

static const struct config_key *key_of(const struct line *l)
{
    size_t count;
    const struct config_key *keys =
        l->in_flow ? config_flow_keys(&count) : config_global_keys(&count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].path, l->path) == 0)
            return &keys[i];
    }
    fail_msg("config.example has '%s', which is no setting", l->path);
    return NULL;
}

/* A default stands as it is.  Off is what has none and need not be, and what would have no effect
 * in this flow. */
static void compare_value(const struct line *l, const struct config_key *k,
                          const struct config_flow *f)
{
    bool quoted = k->type != CONFIG_COUNT && (k->type != CONFIG_FLAG || k->words != NULL);
    bool bare = k->preset == NULL && !k->required && k->type != CONFIG_TEXTS;
    bool idle = l->in_flow && config_rules_idle(f, k) != NULL;
    char preset[256];

    if (k->preset != NULL) {
        (void)snprintf(preset, sizeof preset, quoted ? "\"%s\"" : "%s", k->preset);
        assert_string_equal(l->value, preset);
    }
    if (strcmp(l->path, "stream") != 0 && l->off != (bare || idle))
        fail_msg("%s is %s in config.example", l->path, l->off ? "off" : "on");
}

/* What a list of groups is made of is described above it. */
static void compare_group(const char *text, const struct line *l, const struct config_key *k)
{
    const char *begin = l->begin;
    char copy[4096];

    if (k->type != CONFIG_GROUPS)
        return;
    while (begin > text && memcmp(begin - 2, "\n\n", 2) != 0)
        begin--;
    (void)snprintf(copy, sizeof copy, "%.*s", (int)(l->end - begin), begin);
    for (size_t i = 0; i < k->group->count; i++) {
        const struct config_key *row = &k->group->rows[i];
        if (strstr(copy, row->path) == NULL ||
            (row->preset != NULL && !row->required && strstr(copy, row->preset) == NULL))
            fail_msg("config.example does not tell of %s in %s, or of its default", row->path,
                     k->path);
        for (size_t w = 0; row->words != NULL && row->words[w] != NULL; w++) {
            if (strstr(copy, row->words[w]) == NULL)
                fail_msg("config.example does not tell of %s", row->words[w]);
        }
    }
}

static struct config *load_example(void)
{
    struct config_mistakes m = {0};
    struct config *c = NULL;
    int r = config_load(SOURCE_DIR "/config.example", &c, &m);

    config_mistakes_print(&m, stderr);
    assert_int_equal(r, 0);
    assert_int_equal(c->flow_count, 1);
    return c;
}

static void test_example_has_what_the_tables_have(void **state)
{
    struct config *c = load_example();
    char *text = read_example();
    struct reader r = {.at = text};
    size_t seen = 0, globals, flows;
    struct line line;

    (void)state;
    while (next_line(&r, &line)) {
        compare_value(&line, key_of(&line), &c->flows[0]);
        compare_group(text, &line, key_of(&line));
        seen++;
    }
    (void)config_global_keys(&globals);
    (void)config_flow_keys(&flows);
    assert_int_equal(seen, globals + flows); /* each is a row, none twice: libconfig sees to it */
    free(text);
    config_free(c);
}

static bool switches(const char *const *on, const struct line *l)
{
    for (; *on != NULL; on++) {
        size_t len = strcspn(*on, "=");
        if (strncmp(*on, l->path, len) == 0 &&
            (l->path[len] == '\0' || (len > 0 && (*on)[len - 1] == '.')))
            return true;
    }
    return false;
}

/* Switches on what `on` says ("parse.time." is a group), gives new values ("output=\"raw\""), and
 * switches off what begins with a minus. */
static void write_variant(const char *text, const char *const *on, bool *seen, struct buf *to)
{
    struct reader r = {.at = text};
    const char *copied = text;
    struct line l;

    for (size_t i = 0; next_line(&r, &l); i++) {
        const char *value = NULL;
        char minus[136];
        const char *const offs[] = {minus, NULL};

        (void)snprintf(minus, sizeof minus, "-%s", l.path);
        assert_int_equal(buf_append(to, (struct slice){copied, (size_t)(l.begin - copied)}), 0);
        copied = l.end;
        for (const char *const *o = on; *o != NULL; o++) {
            if (strcmp(*o, offs[0]) == 0)
                goto off;
            if (strncmp(*o, l.path, strlen(l.path)) == 0 && (*o)[strlen(l.path)] == '=')
                value = *o + strlen(l.path) + 1;
        }
        if (switches(on, &l))
            seen[i] = true;
        if (!l.off || switches(on, &l))
            assert_int_equal(
                buf_printf(to, "%s = %s;",
                           strrchr(l.path, '.') != NULL ? strrchr(l.path, '.') + 1 : l.path,
                           value != NULL ? value : l.value),
                0);
    off:;
    }
    assert_int_equal(buf_append(to, slice_of(copied)), 0);
}

/* The settings that are off exclude each other; together these switch on each of them. */
static const char *const variants[][12] = {
    {"endpoint.", "credentials.", "proxy.", "multiline.", "redact", "add", "output", "newline"},
    {"-stream", "stream_arn", "convert"},
    {"-stream", "-key", "delivery_stream", "join=\"lines\"", "join_bytes", "compress=\"zstd\"",
     "compress_level"},
    {"parse.format=\"csv\"", "parse.fields", "parse.delimiter", "parse.types", "parse.time.",
     "parse.on_mismatch", "keep", "rename"},
    {"parse.format=\"csv\"", "parse.header=true", "remove"},
    {"-parse.format", "parse.regex"},
};

static void test_example_loads_with_all_on(void **state)
{
    char *text = read_example();
    struct reader r = {.at = text};
    bool seen[256] = {false};
    struct line line;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        struct buf variant;

        buf_init(&variant, 2 * EXAMPLE_MAX);
        write_variant(text, variants[i], seen, &variant);
        assert_int_equal(buf_append_char(&variant, '\0'), 0);
        check_round_trip(load_well(variant.ptr));
        buf_done(&variant);
    }
    for (size_t i = 0; next_line(&r, &line); i++) {
        if (line.off && !seen[i] && strcmp(line.path, "tls.ca_file") != 0)
            fail_msg("%s was never on", line.path);
    }
    free(text);
}

static void test_rows_are_sound(void **state)
{
    const struct config_key *tables[2];
    size_t counts[2];

    (void)state;
    tables[0] = config_global_keys(&counts[0]);
    tables[1] = config_flow_keys(&counts[1]);
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < counts[t]; i++) {
            assert_non_null(tables[t][i].meaning);
            assert_true(tables[t][i].min <= tables[t][i].max);
            assert_int_equal(tables[t][i].group != NULL, tables[t][i].type == CONFIG_GROUPS);
            for (size_t j = 0; j < i; j++)
                assert_string_not_equal(tables[t][i].path, tables[t][j].path);
        }
    }
}

/* --- files ----------------------------------------------------------------------------------- */

struct place {
    char dir[64], path[128];
};

static void write_file(const struct place *p, const char *name, const char *text, mode_t mode)
{
    char path[256];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    (void)unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    char conf_d[128];

    (void)snprintf(p->dir, sizeof p->dir, "/tmp/kinetail-config-XXXXXX");
    if (mkdtemp(p->dir) == NULL)
        return -1;
    (void)snprintf(p->path, sizeof p->path, "%s/main.conf", p->dir);
    (void)snprintf(conf_d, sizeof conf_d, "%s/conf.d", p->dir);
    *state = p;
    return mkdir(conf_d, 0700);
}

static int teardown(void **state)
{
    struct place *p = *state;
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", p->dir);
    if (system(command) != 0)
        return -1;
    free(p);
    return 0;
}

/* Loads main.conf, which must be wrong in exactly one way. */
static void expect_one(const struct place *p, int r, const char *file, unsigned line,
                       const char *key, const char *part)
{
    struct config_mistakes m = {0};
    struct config *c = NULL;
    int got = config_load(p->path, &c, &m);

    if (got != r || m.count != 1 || strstr(m.items[0].file, file) == NULL ||
        m.items[0].line != line || strcmp(m.items[0].key, key) != 0 ||
        strstr(m.items[0].sentence, part) == NULL) {
        print_error("expected %s:%u: %s: ...%s...; got %d:\n", file, line, key, part, got);
        config_mistakes_print(&m, stderr);
        fail();
    }
    config_mistakes_done(&m);
}

static struct config *expect_well(const struct place *p)
{
    struct config_mistakes m = {0};
    struct config *c = NULL;
    int r = config_load(p->path, &c, &m);

    config_mistakes_print(&m, stderr);
    assert_int_equal(r, 0);
    return c;
}

#define SECRET "credentials = { access_key_id = \"A\";\n secret_access_key = \"hush\"; };\n"

static void test_exposed_secret(void **state)
{
    const struct place *p = *state;

    write_file(p, "main.conf", REGION SECRET FLOWS, 0640);
    expect_one(p, -EINVAL, "main.conf", 3, "credentials.secret_access_key", "chmod 600 /tmp/");
    write_file(p, "main.conf", REGION SECRET FLOWS, 0604);
    expect_one(p, -EINVAL, "main.conf", 3, "credentials.secret_access_key", "chmod 600 /tmp/");
    write_file(p, "main.conf", REGION SECRET FLOWS, 0600);
    config_free(expect_well(p));

    /* It is the file with the secret that counts, not the one that includes it. */
    write_file(p, "main.conf", "@include \"secret\"\n" REGION FLOWS, 0644);
    write_file(p, "secret", SECRET, 0644);
    expect_one(p, -EINVAL, "/secret", 2, "credentials.secret_access_key", "chmod 600 /tmp/");
    write_file(p, "secret", SECRET, 0400);
    config_free(expect_well(p));
}

/* A proxy is one only if it has a user in it. */
static void test_exposed_proxy(void **state)
{
    const struct place *p = *state;

    write_file(p, "main.conf", REGION "proxy = { url = \"http://a:hush@p:1\"; };\n" FLOWS, 0644);
    expect_one(p, -EINVAL, "main.conf", 2, "proxy.url", "chmod 600 /tmp/");
    write_file(p, "main.conf", REGION "proxy = { url = \"http://a:hush@p:1\"; };\n" FLOWS, 0600);
    config_free(expect_well(p));
    write_file(p, "main.conf", REGION "proxy = { url = \"http://p:1\"; };\n" FLOWS, 0644);
    config_free(expect_well(p));
}

static void test_conf_d(void **state)
{
    const struct place *p = *state;
    struct config *c;

    write_file(p, "main.conf", REGION "flows = ( { " FLOW "} );", 0644);
    write_file(p, "conf.d/20.conf",
               "flows = ( { name = \"c\"; files = [\"/c\"]; stream = \"s\"; } );", 0644);
    write_file(p, "conf.d/10.conf",
               "lanes = 1;\nflows = (\n{ name = \"b\"; files = [\"/b\"];"
               " stream = \"s\"; } );",
               0644);
    write_file(p, "conf.d/.hidden.conf", "wrong!", 0644);
    write_file(p, "conf.d/10.conf~", "wrong!", 0644);
    c = expect_well(p);
    assert_int_equal(c->flow_count, 3);
    assert_string_equal(c->flows[1].name, "b");
    assert_string_equal(c->flows[2].name, "c");
    assert_non_null(strstr(c->flows[1].where_file, "/conf.d/10.conf"));
    assert_int_equal(c->flows[1].where_line, 3);
    config_free(c);

    write_file(p, "conf.d/30.conf", "\nlanes = 1;", 0644);
    expect_one(p, -EINVAL, "30.conf", 2, "lanes", "/conf.d/10.conf:1 already");
    write_file(p, "conf.d/30.conf", "\nflows = ( { " FLOW "} );", 0644);
    expect_one(p, -EINVAL, "30.conf", 2, "flows[0].name", "/main.conf:2 already");
    write_file(p, "conf.d/30.conf", "region", 0644);
    expect_one(p, -EINVAL, "30.conf", 2, "", "syntax error");
}

static void test_include(void **state)
{
    const struct place *p = *state;
    struct config *c;

    write_file(p, "main.conf", REGION "flows = (\n  @include \"conf.d/flow\" \n);\nlanes = 1;",
               0644);
    write_file(p, "conf.d/flow", "@include \"name\"\nfiles = [ \"/a\" ]; }", 0644);
    write_file(p, "conf.d/name", "\n{ name = \"n\"; stream = \"s\";", 0644);
    c = expect_well(p);
    assert_string_equal(c->flows[0].name, "n");
    assert_non_null(strstr(c->flows[0].where_file, "/conf.d/name"));
    assert_int_equal(c->flows[0].where_line, 2);
    config_free(c);

    /* Lines are right after an include, and inside of it. */
    write_file(p, "conf.d/flow", "@include \"name\"\nfiles = [ \"a\" ]; }", 0644);
    expect_one(p, -EINVAL, "/conf.d/flow", 2, "flows[0].files[0]", "relative");
    write_file(p, "conf.d/flow", "@include \"name\"\nfiles = [ \"/a\" ]; }", 0644);
    write_file(p, "main.conf", REGION "flows = (\n@include \"conf.d/flow\"\n);\nlanes = 0;", 0644);
    expect_one(p, -EINVAL, "main.conf", 5, "lanes", "out of range");

    write_file(p, "main.conf", "\n@include \"main.conf\"", 0644);
    expect_one(p, -EINVAL, "main.conf", 2, "", "does one include itself?");
    write_file(p, "main.conf", "\n@include \"nowhere\"", 0644);
    expect_one(p, -EINVAL, "main.conf", 2, "", "nowhere' cannot be opened: No such file");
    write_file(p, "main.conf", "\n@include \"", 0644);
    expect_one(p, -EINVAL, "main.conf", 2, "", "is missing");
}

static void test_no_file(void **state)
{
    struct place *p = *state;

    expect_one(p, -ENOENT, "main.conf", 0, "", "cannot be opened: No such file");
    assert_int_equal(mkdir(p->path, 0700), 0);
    expect_one(p, -EINVAL, "main.conf", 0, "", "is a directory");
    assert_int_equal(rmdir(p->path), 0);
    assert_int_equal(mkfifo(p->path, 0600), 0);
    expect_one(p, -EINVAL, "main.conf", 0, "", "is a FIFO");
    write_file(p, "conf.d/ok", "", 0600);
    write_file(p, "main.conf", "\n@include \"fifo\"", 0600);
    (void)snprintf(p->path, sizeof p->path, "%s/fifo", p->dir);
    assert_int_equal(mkfifo(p->path, 0600), 0);
    (void)snprintf(p->path, sizeof p->path, "%s/main.conf", p->dir);
    expect_one(p, -EINVAL, "main.conf", 2, "", "fifo' is a FIFO");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_zero_byte_and_size),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_set),
        cmocka_unit_test(test_print_loads_again),
        cmocka_unit_test(test_shaping),
        cmocka_unit_test(test_shaping_loads_again),
        cmocka_unit_test(test_good_flows),
        cmocka_unit_test(test_groups_are_bounded),
        cmocka_unit_test(test_good_endpoints),
        cmocka_unit_test(test_good_globs),
        cmocka_unit_test(test_partition_key_length),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_rows_are_sound),
        cmocka_unit_test(test_example_has_what_the_tables_have),
        cmocka_unit_test(test_example_loads_with_all_on),
        cmocka_unit_test_setup_teardown(test_exposed_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exposed_proxy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conf_d, setup, teardown),
        cmocka_unit_test_setup_teardown(test_include, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_file, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
