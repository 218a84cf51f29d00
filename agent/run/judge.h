/* judge -- what else must hold for a text, beyond its length.
 *
 * Each takes a text that is not empty and returns NULL if it will do; else what is wrong with it
 * and what to do, as the rest of a sentence that begins with the text: "'x' " "is not absolute; …".
 * Those with a `why` write into it where the sentence depends on the text.
 *
 * Only judge_ca_file (stat, access) and judge_zone (the time zone database) look at the world; the
 * others think. */
#ifndef JUDGE_H
#define JUDGE_H

#include <stddef.h>

const char *judge_region(const char *text);
const char *judge_absolute(const char *text);
const char *judge_ca_file(const char *text);
const char *judge_name(const char *text);
const char *judge_stream(const char *text);
const char *judge_stream_arn(const char *text);
const char *judge_endpoint(const char *text);
const char *judge_access_key_id(const char *text);
const char *judge_secret(const char *text);     /* also a session token */
const char *judge_files_glob(const char *text); /* an absolute path with globs */
const char *judge_glob(const char *text);       /* for `exclude`: any glob */
const char *judge_utf8(const char *text);
const char *judge_partition(const char *text); /* the TEXT of key = "const:TEXT" */
const char *judge_delivery_stream(const char *text);
const char *judge_delimiter(const char *text);
const char *judge_field_name(const char *text);
const char *judge_join(const char *text); /* of a word for `join` that is not known */

enum { JUDGE_WHY_SIZE = 320 };

const char *judge_pattern(const char *text, char why[static JUDGE_WHY_SIZE]);
const char *judge_key_pattern(const char *text, char why[static JUDGE_WHY_SIZE]); /* has a group */
const char *judge_java_pattern(const char *text, char why[static JUDGE_WHY_SIZE]);
const char *judge_time_format(const char *text, char why[static JUDGE_WHY_SIZE]);
const char *judge_value(const char *text, char why[static JUDGE_WHY_SIZE]); /* ${variables} */
const char *judge_zone(const char *text, char why[static JUDGE_WHY_SIZE]);

/* These two judge `text`, which may be empty, and `pattern` with so many names for its groups. */
const char *judge_replacement(const char *pattern, const char *text,
                              char why[static JUDGE_WHY_SIZE]);
const char *judge_groups(const char *pattern, size_t name_count, char why[static JUDGE_WHY_SIZE]);
const char *judge_json(const char *text);

#endif
