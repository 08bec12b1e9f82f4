// A shell for QuickJS that needs nothing but files: runs the script that its argument names; print() writes a line.
#include <stdio.h>
#include <stdlib.h>
#include "quickjs.h"

static JSValue print(JSContext *context, JSValueConst this, int count, JSValueConst *values) {
    for (int i = 0; i < count; i++) {
        const char *text = JS_ToCString(context, values[i]);
        if (!text) return JS_EXCEPTION;
        printf(i ? " %s" : "%s", text);
        JS_FreeCString(context, text);
    }
    putchar('\n');
    return JS_UNDEFINED;
}

int main(int count, char **arguments) {
    if (count != 2) return fprintf(stderr, "usage: quickjs FILE\n"), 2;
    FILE *file = fopen(arguments[1], "rb");
    if (!file) return perror(arguments[1]), 2;
    char *script = NULL;
    size_t length = 0, room = 0;
    for (size_t read = 1; read; length += read) {
        if (length + 1 >= room) script = realloc(script, room = 2 * room + 4096);
        read = fread(script + length, 1, room - length - 1, file);
    }
    script[length] = 0;
    JSContext *context = JS_NewContext(JS_NewRuntime());
    JSValue global = JS_GetGlobalObject(context);
    JS_SetPropertyStr(context, global, "print", JS_NewCFunction(context, print, "print", 1));
    JSValue value = JS_Eval(context, script, length, arguments[1], JS_EVAL_TYPE_GLOBAL);
    if (!JS_IsException(value)) return 0;
    JSValue exception = JS_GetException(context);
    fprintf(stderr, "%s\n", JS_ToCString(context, exception));
    return 1;
}
