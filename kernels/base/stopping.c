/* Signals, noted where Python's own handlers cannot run. */
#include "base/stopping.h"

#include <signal.h>
#include <string.h>

enum { SIGNALS = 2 };
static const int numbers[SIGNALS] = {SIGINT, SIGTERM};
static struct sigaction before[SIGNALS];                   /* what was done about them: it still is, after the note */
static int watched[SIGNALS];
static volatile sig_atomic_t signalled;
static _Thread_local int stoppable, stopped;

static void note(int number, siginfo_t *info, void *context) {
    const struct sigaction *passed_on = &before[number == numbers[1]];
    signalled = 1;
    if (passed_on->sa_flags & SA_SIGINFO) passed_on->sa_sigaction(number, info, context);
    else passed_on->sa_handler(number);
}

void fastnn_stoppable_begin(int on_interrupt, int on_terminate) {
    const int wanted[SIGNALS] = {on_interrupt, on_terminate};
    signalled = 0;
    stopped = 0;
    stoppable = 1;
    for (int i = 0; i < SIGNALS; i++) {
        struct sigaction noted;
        if (watched[i]) continue; /* an exception has come between a begin and its end */
        if (!wanted[i] || sigaction(numbers[i], NULL, &before[i])) continue;
        if (!(before[i].sa_flags & SA_SIGINFO) && (before[i].sa_handler == SIG_DFL || before[i].sa_handler == SIG_IGN)) continue;
        noted = before[i];
        noted.sa_flags |= SA_SIGINFO;
        noted.sa_sigaction = note;
        watched[i] = !sigaction(numbers[i], &noted, NULL);
    }
}

void fastnn_stoppable_hold(void) { stoppable = 0; }

int fastnn_stoppable_end(void) {
    int was_stopped = stopped;
    for (int i = 0; i < SIGNALS; i++)
        if (watched[i]) sigaction(numbers[i], &before[i], NULL);
    memset(watched, 0, sizeof watched);
    stoppable = stopped = 0;
    return was_stopped;
}

int fastnn_stop_noted(void) {
    if (stoppable && signalled) stopped = 1;
    return stopped;
}
