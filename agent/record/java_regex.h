/* java_regex -- what a pattern of java.util.regex means, said in PCRE2's words, or not at all.
 *
 *   1. A translation means what Java 8 means by the pattern: the same texts match, with the same
 *      groups.  What would mean something else is refused by its name.
 *   2. What was translated, pattern_new takes (with PATTERN_UTF; PATTERN_START and PATTERN_WHOLE
 *      are lookingAt() and matches(); no other flags).
 *
 * Three things are as in PCRE2 nonetheless: which characters have a property is a matter of the
 * Unicode version (Java 8 has 6.2); a text is UTF-8, so half a surrogate pair cannot occur; and for
 * \b no more than three combining marks belong to a letter.
 *
 * Thinks: no I/O.  Threads: any; there is no state.  Allocates: it is for start-up. */
#ifndef JAVA_REGEX_H
#define JAVA_REGEX_H

#include "record/pattern.h"
#include "slice.h"

struct buf;

/* Appends the translation to `to`.  Errors: -EINVAL if Java would throw a PatternSyntaxException;
 * -ENOTSUP if it would not, but we cannot say the same; both with a sentence in *ret_error and the
 * byte of `java` where it was noticed.  -ENOMEM, -EMSGSIZE past the ceiling of `to`.  After an
 * error `to` is as it was. */
int java_regex_translate(struct slice java, struct buf *to, struct pattern_error *ret_error);

#endif
