/* patience -- how flows whose lines are too hard stand back, so that their neighbours in the lane
 * do not feel them.
 *
 * One line may cost two thousand times what others do (record/pattern.h), and turns are taken one
 * after the other: fair turns would still give an evil flow half of the lane.  So whoever has
 * worked hard waits nine times as long, all of them in one row: together they get a tenth.  Where nobody
 * else has had anything to do for a while, nobody has to wait.
 *
 * Time is counted in work, not measured: the same lines wait equally long on every machine.
 *
 * Threads: one lane.  Thinks: no I/O. */
#ifndef PATIENCE_H
#define PATIENCE_H

#include <stdint.h>

struct patience {     /* all zero at first */
    uint64_t row_ms;  /* up to then the row is full */
    uint64_t rest;    /* work that was less than a millisecond's */
    const void *last; /* who had ordinary lines last, and when … */
    uint64_t last_ms;
    uint64_t other_ms; /* … and when somebody else had; 0: never */
};

/* `who` had ordinary lines now. */
void patience_ordinary(struct patience *p, const void *who, uint64_t now_ms);

/* `who` has worked hard (units of pattern_work).  Returns until when it has to wait; 0: it may go
 * on. */
uint64_t patience_hard(struct patience *p, const void *who, uint64_t work, uint64_t now_ms);

#endif
