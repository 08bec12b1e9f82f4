// Makes a picture narrower without squeezing what is in it: content-aware resizing by seam carving
// (Avidan and Shamir, 2007).
//
//     seam-carving IN.jpg OUT.jpg SEAMS.jpg COLUMNS
//
// A seam is a path of pixels from the top edge to the bottom edge, one in each row, that crosses as little detail as
// possible. COLUMNS seams are removed, one after the other; SEAMS.jpg is the picture with all of them in red.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#include <stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>

enum { CHANNELS = 3, QUALITY = 90 };

static const unsigned char RED[CHANNELS] = {255, 40, 40};

typedef struct {
    int width, height;     // of what is left
    int stride;            // of the whole picture
    unsigned char *pixels; // height rows of stride pixels
    int *column;           // where each pixel stood in the whole picture
    float *energy, *least; // of each pixel, and of the best path from the top to it
} Picture;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void *room(size_t count, size_t bytes) {
    void *memory = calloc(count, bytes);
    if (!memory) fail("seam-carving", "out of memory");
    return memory;
}

static Picture whole(unsigned char *pixels, int width, int height) {
    size_t count = (size_t)width * height;
    Picture picture = {width, height, width, pixels, room(count, sizeof(int)), room(count, sizeof(float)),
                       room(count, sizeof(float))};
    for (size_t i = 0; i < count; i++) picture.column[i] = i % width;
    return picture;
}

static const unsigned char *at(const Picture *picture, int x, int y) {
    x = x < 0 ? 0 : x >= picture->width ? picture->width - 1 : x;
    y = y < 0 ? 0 : y >= picture->height ? picture->height - 1 : y;
    return picture->pixels + ((size_t)y * picture->stride + x) * CHANNELS;
}

static float distance(const unsigned char *a, const unsigned char *b) {
    float sum = 0;
    for (int c = 0; c < CHANNELS; c++) {
        float difference = (a[c] - b[c]) / 255.0f;
        sum += difference * difference;
    }
    return sum;
}

// How much detail there is: the dual gradient, from the four neighbours' colours.
static void measure(Picture *picture) {
    for (int y = 0; y < picture->height; y++)
        for (int x = 0; x < picture->width; x++)
            picture->energy[(size_t)y * picture->stride + x] =
                sqrtf(distance(at(picture, x - 1, y), at(picture, x + 1, y)) +
                      distance(at(picture, x, y - 1), at(picture, x, y + 1)));
}

// The column of the least entry among x-1, x and x+1, the leftmost if several are equal.
static int best_near(const Picture *picture, const float *row, int x) {
    int best = x;
    if (x > 0 && row[x - 1] <= row[x]) best = x - 1;
    if (x + 1 < picture->width && row[x + 1] < row[best]) best = x + 1;
    return best;
}

static void find_seam(Picture *picture, int *seam) {
    measure(picture);
    int width = picture->width, stride = picture->stride, last = picture->height - 1;
    memcpy(picture->least, picture->energy, width * sizeof(float));
    for (int y = 1; y <= last; y++) {
        const float *above = picture->least + (size_t)(y - 1) * stride;
        for (int x = 0; x < width; x++) {
            size_t here = (size_t)y * stride + x;
            picture->least[here] = picture->energy[here] + above[best_near(picture, above, x)];
        }
    }
    const float *row = picture->least + (size_t)last * stride;
    seam[last] = 0;
    for (int x = 1; x < width; x++)
        if (row[x] < row[seam[last]]) seam[last] = x;
    for (int y = last - 1; y >= 0; y--)
        seam[y] = best_near(picture, picture->least + (size_t)y * stride, seam[y + 1]);
}

static void remove_seam(Picture *picture, const int *seam, unsigned char *marked) {
    for (int y = 0; y < picture->height; y++) {
        size_t here = (size_t)y * picture->stride + seam[y];
        size_t rest = picture->width - seam[y] - 1;
        memcpy(marked + ((size_t)y * picture->stride + picture->column[here]) * CHANNELS, RED, CHANNELS);
        memmove(picture->pixels + here * CHANNELS, picture->pixels + (here + 1) * CHANNELS, rest * CHANNELS);
        memmove(picture->column + here, picture->column + here + 1, rest * sizeof(int));
    }
    picture->width--;
}

// Moves the rows together, so that the picture can be written.
static void close_gaps(Picture *picture) {
    size_t row = (size_t)picture->width * CHANNELS;
    for (int y = 1; y < picture->height; y++)
        memmove(picture->pixels + y * row, picture->pixels + (size_t)y * picture->stride * CHANNELS, row);
    picture->stride = picture->width;
}

static void save(const char *path, int width, int height, const unsigned char *pixels) {
    if (!stbi_write_jpg(path, width, height, CHANNELS, pixels, QUALITY)) fail(path, "cannot be written");
}

int main(int count, char **arguments) {
    if (count != 5) fail("usage", "seam-carving IN.jpg OUT.jpg SEAMS.jpg COLUMNS");
    int width, height, columns = atoi(arguments[4]);
    unsigned char *pixels = stbi_load(arguments[1], &width, &height, NULL, CHANNELS);
    if (!pixels) fail(arguments[1], stbi_failure_reason());
    if (columns < 0 || columns >= width) fail(arguments[4], "columns to remove must be fewer than the picture has");

    size_t bytes = (size_t)width * height * CHANNELS;
    unsigned char *marked = memcpy(room(bytes, 1), pixels, bytes);
    int *seam = room(height, sizeof(int));
    Picture picture = whole(pixels, width, height);
    for (int i = 0; i < columns; i++) {
        find_seam(&picture, seam);
        remove_seam(&picture, seam, marked);
    }
    close_gaps(&picture);
    save(arguments[2], picture.width, height, picture.pixels);
    save(arguments[3], width, height, marked);
    printf("%d x %d is now %d x %d\n", width, height, picture.width, height);
    return 0;
}
