// Allocation: binary trees made, walked and freed, and an array sorted by a comparison function.
#include <stdlib.h>

struct node { struct node *left, *right; };

static struct node *make(int depth) {
    struct node *node = malloc(sizeof *node);
    node->left = depth ? make(depth - 1) : 0;
    node->right = depth ? make(depth - 1) : 0;
    return node;
}
static int count(struct node *node) { return node ? 1 + count(node->left) + count(node->right) : 0; }
static void release(struct node *node) {
    if (!node) return;
    release(node->left), release(node->right);
    free(node);
}
static int compare(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

int main(void) {
    int total = 0;
    for (int i = 0; i < 24; i++) {
        struct node *tree = make(16);
        total += count(tree);
        release(tree);
    }
    static unsigned numbers[1 << 20];
    unsigned random = 1;
    for (int i = 0; i < 1 << 20; i++) numbers[i] = random = random * 1664525 + 1013904223;
    qsort(numbers, 1 << 20, sizeof *numbers, compare);
    return total == 24 * 131071 && numbers[0] <= numbers[1] ? 0 : 1;
}
