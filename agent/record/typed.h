/* typed -- a text made the number, truth or nothing that it says.
 *
 * Nothing is guessed and nothing is lost: a text that does not say such a value stays a text.  An empty
 * text, and a lone "-", say that there is none: null.
 *
 * Thinks: no I/O. */
#ifndef TYPED_H
#define TYPED_H

#include "record/recipe.h"

struct arena;
struct field;

/* Gives `f` the type:
 *     RECIPE_INTEGER  "+007" → 7; any number of digits
 *     RECIPE_NUMBER   as JSON has them, and " 1", "+1", ".5", "1.", "007": written as JSON has them
 *     RECIPE_BOOLEAN  true, yes, on, t, y, 1; false, no, off, f, n, 0; in any case
 *     RECIPE_NULL     only the empty text, "-" and "null" change
 *     RECIPE_TEXT     a number, true or false of JSON becomes its text
 * Errors: -EMSGSIZE if the arena is full. */
int typed_set(struct field *f, enum recipe_type type, struct arena *arena);

#endif
